"""What this project needs of `ctypes`, from its C half: the module itself takes 3 ms of a cold start to import.

The names and their behaviour are ctypes', for Linux; its own objects may be passed to functions from here.
"""

from __future__ import annotations

__all__ = [
    "CDLL", "PyDLL", "Structure", "addressof", "byref", "c_char", "c_char_p", "c_int", "c_long", "c_size_t",
    "c_ssize_t", "c_uint", "c_uint32", "c_uint64", "c_ulong", "c_ushort", "c_void_p", "create_string_buffer",
    "get_errno", "sizeof",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import (
        CDLL,
        PyDLL,
        Structure,
        addressof,
        byref,
        c_char,
        c_char_p,
        c_int,
        c_long,
        c_size_t,
        c_ssize_t,
        c_uint,
        c_uint32,
        c_uint64,
        c_ulong,
        c_ushort,
        c_void_p,
        create_string_buffer,
        get_errno,
        sizeof,
    )
else:
    import _ctypes
    from _ctypes import Structure, _SimpleCData, addressof, byref, get_errno, sizeof

    class c_char(_SimpleCData):
        _type_ = "c"

    class c_char_p(_SimpleCData):
        _type_ = "z"

    class c_void_p(_SimpleCData):
        _type_ = "P"

    class c_ushort(_SimpleCData):
        _type_ = "H"

    class c_int(_SimpleCData):
        _type_ = "i"

    class c_uint(_SimpleCData):
        _type_ = "I"

    class c_long(_SimpleCData):
        _type_ = "l"

    class c_ulong(_SimpleCData):
        _type_ = "L"

    class c_uint64(_SimpleCData):
        _type_ = "Q"

    c_uint32 = c_uint
    c_size_t = c_ulong  # on every Linux
    c_ssize_t = c_long

    class CDLL:
        """A library's functions as attributes; `use_errno`: errno is kept for `get_errno`. Raises OSError."""

        _flags = _ctypes.FUNCFLAG_CDECL

        def __init__(self, name, use_errno=False):
            class Function(_ctypes.CFuncPtr):
                _flags_ = self._flags | (_ctypes.FUNCFLAG_USE_ERRNO if use_errno else 0)
                _restype_ = c_int

            self._handle = _ctypes.dlopen(name, 0)
            self._function = Function

        def __getattr__(self, name):
            function = self._function((name, self))
            setattr(self, name, function)
            return function

    class PyDLL(CDLL):
        """The same without letting go of the interpreter lock during a call."""

        _flags = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI

    def create_string_buffer(init, size=None):
        """A mutable buffer of bytes with a NUL behind, or of `init` bytes."""
        if isinstance(init, int):
            return (c_char * init)()
        buffer = (c_char * (len(init) + 1 if size is None else size))()
        buffer.value = init
        return buffer
