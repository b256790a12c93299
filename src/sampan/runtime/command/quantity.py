"""Numbers and sizes as people type them."""

from __future__ import annotations

from sampan.errors import InvalidArgument

_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}


def integer(text: str, about: str, signed: bool) -> int:
    """A decimal number of 64 bits. Raises InvalidArgument in the words of Go's strconv, `about` before them."""
    function = "ParseInt" if signed else "ParseUint"
    digits = text[1:] if signed and text[:1] in ("-", "+") else text
    if not digits.isascii() or not digits.isdigit():
        raise InvalidArgument(f'{about}: strconv.{function}: parsing "{text}": invalid syntax')
    value = int(text) if len(digits) <= 20 else 2**64
    if not -(2**63) <= value < (2**63 if signed else 2**64):
        raise InvalidArgument(f'{about}: strconv.{function}: parsing "{text}": value out of range')
    return value


def size(text: str, about: str) -> int:
    """Bytes: "1048576", "1.5g", "64MiB"; units are powers of 1024. Raises InvalidArgument in the words of go-units."""
    lowered = text.lower().strip()
    number = lowered.rstrip("kmgtpib ")
    unit = lowered[len(number):].strip()
    for suffix in ("ib", "b"):
        if unit.endswith(suffix) and (suffix != "ib" or len(unit) > 2):
            unit = unit.removesuffix(suffix)
            break
    whole, dot, fraction = number.partition(".")
    digits = whole + fraction
    if unit not in _UNITS or not digits.isascii() or not digits.isdigit() or not whole or (dot and not fraction):
        raise InvalidArgument(f"{about}: invalid size: '{text}'")
    if len(digits) > 19:
        raise InvalidArgument(f"{about}: size '{text}' is out of range")
    value: int = (int(digits) << _UNITS[unit]) // 10 ** len(fraction)
    if value >= 2**63:
        raise InvalidArgument(f"{about}: size '{text}' is out of range")
    return value
