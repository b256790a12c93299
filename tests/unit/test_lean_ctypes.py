"""The small ctypes against the real one."""

from __future__ import annotations

import ctypes as real
import errno
import os

import pytest

from sampan.lean import ctypes


@pytest.mark.parametrize("name", [
    "c_char", "c_char_p", "c_int", "c_long", "c_size_t", "c_ssize_t", "c_uint", "c_uint32", "c_uint64", "c_ulong",
    "c_ushort", "c_void_p",
])
def test_sizes(name: str) -> None:
    assert ctypes.sizeof(getattr(ctypes, name)) == real.sizeof(getattr(real, name))


@pytest.mark.parametrize("arguments", [(b"abc",), (b"abc", 2 + 2), (b"abc", 3), (b"a\0b", 3), (5,), (b"",)])
def test_buffers(arguments: tuple[bytes | int, ...]) -> None:
    ours = ctypes.create_string_buffer(*arguments)  # type: ignore[arg-type]
    theirs = real.create_string_buffer(*arguments)  # type: ignore[arg-type]
    assert ours.raw == theirs.raw
    assert ours.value == theirs.value
    with pytest.raises(ValueError, match="too long"):
        ctypes.create_string_buffer(b"abc", 2)


class Pair(ctypes.Structure):
    _fields_ = (("first", ctypes.c_uint32), ("second", ctypes.c_uint64))


def test_structures_arrays_and_pointers() -> None:
    pair = Pair(1, 2**63)
    assert (ctypes.sizeof(pair), pair.second) == (16, 2**63)
    both = (Pair * 2)(pair, Pair(second=5))
    assert both[1].second == 5
    memmove = ctypes.CDLL(None).memmove
    memmove.restype = ctypes.c_void_p
    memmove.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    assert memmove(ctypes.addressof(both), ctypes.byref(Pair(7)), 16) == ctypes.addressof(both)
    assert both[0].first == 7


@pytest.mark.parametrize("library", [ctypes.CDLL, ctypes.PyDLL])
def test_functions(library: type[ctypes.CDLL]) -> None:
    lib = library(None, use_errno=True)
    assert lib.getpid() == os.getpid()
    assert lib.close(ctypes.c_int(-1)) == -1
    assert ctypes.get_errno() == errno.EBADF
    assert lib.strlen(b"four") == 4
    with pytest.raises(AttributeError):
        _ = lib.no_such_function
    with pytest.raises(OSError, match="no-such-library"):
        library("no-such-library.so")
