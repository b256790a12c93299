"""Struct and JSON for what runs both in the engine and in programs that live 30 ms.

Where msgspec is loaded already (the engine and its processes) all of it is msgspec's; a program that has not loaded it
gets small ones with the same behaviour (struct.py), because importing msgspec costs it a quarter of a container start.
The first import decides, for the life of the process: what mixes both must import msgspec first.

Errors are `DecodeError` with the place: "Expected `int`, got `str` - at `$.process.cwd`".
"""

from __future__ import annotations

import sys

__all__ = ["DecodeError", "Struct", "convert", "decode", "encode", "field", "to_builtins"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, TypeVar, overload

    from msgspec import DecodeError, Struct, convert, field, to_builtins
    from msgspec.json import encode

    T = TypeVar("T")

    class Decode(Protocol):
        """The value of a JSON text as `type` has it; unknown members are ignored. Raises DecodeError with the place."""

        @overload
        def __call__(self, data: bytes | bytearray | memoryview | str, type: type[T]) -> T: ...
        @overload
        def __call__(self, data: bytes | bytearray | memoryview | str, type: Any = ...) -> Any: ...

    decode: Decode
elif "msgspec" in sys.modules:
    from typing import Any

    import msgspec
    from msgspec import DecodeError, Struct, convert, field, to_builtins
    from msgspec.json import encode

    def decode(data, type=Any):
        """msgspec's, with one kind of error for everything that is wrong with the data."""
        try:
            return msgspec.json.decode(data, type=type)
        except RecursionError:
            raise DecodeError("JSON is nested too deeply") from None
        except UnicodeDecodeError as error:
            raise DecodeError(f"JSON is malformed: {error}") from None
else:
    from sampan.lean.struct import DecodeError, Struct, convert, decode, encode, field, to_builtins
