"""JSON by the C halves of the standard library's `json`, without its Python halves, which cost 3 ms to import.

Strict as RFC 8259 has it: no NaN, nothing after the value, no lone surrogates (one could become any byte in a path).
"""

from __future__ import annotations

import _json
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class DecodeError(ValueError):
    """What was given is not JSON, or not of the type asked for; `place` leads to where, innermost last."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.place: list[str] = []

    def below(self, step: str) -> DecodeError:
        """Say that the fault was met below `step` (".name", "[3]")."""
        self.place.insert(0, step)
        return self

    def __str__(self) -> str:
        reason = str(self.args[0])
        return f"{reason} - at `${''.join(self.place)}`" if self.place else reason


def _float(text: str) -> float:
    number = float(text)
    if number in (_INFINITE, -_INFINITE):
        raise DecodeError("Number out of range")
    return number


def _constant(name: str) -> float:
    raise DecodeError(f"JSON is malformed: {name} is not JSON")


class _Options:
    """What `_json.make_scanner` asks for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = staticmethod(_float)
    parse_int = int
    parse_constant = staticmethod(_constant)


_INFINITE = float("inf")
_SPACE = " \t\n\r"
_scan = _json.make_scanner(_Options)  # type: ignore[arg-type]


def parse(data: bytes | bytearray | memoryview | str) -> object:
    """The value of a JSON text as dict, list, str, int, float, bool or None. Raises DecodeError, nothing else."""
    try:
        text = (data if isinstance(data, str) else str(data, "utf-8")).rstrip(_SPACE)
        value: object
        value, end = _scan(text, len(text) - len(text.lstrip(_SPACE)))
        if "\\u" in text:
            _check_text(value)
    except DecodeError:
        raise
    except StopIteration as error:
        if error.value >= len(text):
            raise DecodeError("Input data was truncated") from None
        raise DecodeError(f"JSON is malformed: invalid character{_at(text, error.value)}") from None
    except RecursionError:
        raise DecodeError("JSON is nested too deeply") from None
    except SystemError:  # CPython 3.11's scanner sets no error as long as json.decoder is not imported
        raise DecodeError(f"JSON is malformed: {_fault(text)}") from None
    except ValueError as error:
        reason, at = getattr(error, "msg", ""), getattr(error, "pos", 0)  # of json.JSONDecodeError
        raise DecodeError(f"JSON is malformed: {_told(reason, text, at) if reason else error}") from None
    if end != len(text):
        raise DecodeError(f"JSON is malformed: trailing characters{_at(text, end)}")
    return value


def _at(text: str, at: int) -> str:
    return f" at line {text.count(chr(10), 0, at) + 1}, column {at - text.rfind(chr(10), 0, at)}"


def _told(reason: str, text: str, at: int) -> str:
    return f"{reason[0].lower()}{reason[1:].removesuffix(' at')}{_at(text, at)}"


def _fault(text: str) -> str:
    """What the scanner has to say against a text, given a json.decoder to take its kind of error from."""
    class Fault(ValueError):
        pass

    stand_in: Any = type(sys)("json.decoder")
    stand_in.JSONDecodeError = Fault
    sys.modules["json.decoder"] = stand_in
    try:
        _scan(text, len(text) - len(text.lstrip(_SPACE)))
    except Fault as fault:
        reason, _, at = fault.args
        return _told(reason, text, at)
    finally:
        del sys.modules["json.decoder"]
    return "not JSON"


def _check_text(value: object) -> None:
    """Raise UnicodeEncodeError, a ValueError, for a string with half a surrogate pair."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, list):
        for item in value:
            _check_text(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            key.encode()
            _check_text(item)


def dump(value: object, default: Callable[[object], object]) -> bytes:
    """A value as compact JSON; `default` turns what JSON has no type for into what it has. Raises TypeError."""
    encoder = _json.make_encoder(None, default, _json.encode_basestring, None, ":", ",", False, False, False)
    return "".join(encoder(value, 0)).encode()
