"""Detach keys: `ctrl-p,ctrl-q`."""

from __future__ import annotations

from sampan.cli.failure import UsageError

DEFAULT_KEYS = "ctrl-p,ctrl-q"
CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse_keys(text: str) -> bytes:
    """The bytes of a key sequence: letters, or `ctrl-` with a letter or one of @[\\]^_. Raises UsageError."""
    codes = bytearray()
    for key in text.split(","):
        name = key.removeprefix("ctrl-")
        if len(key) == 1 and key.isascii():
            codes.append(ord(key))
        elif name != key and len(name) == 1 and "a" <= name.lower() <= "z":
            codes.append(ord(name.lower()) - ord("a") + 1)
        elif name != key and name in CONTROL:
            codes.append(CONTROL[name])
        else:
            raise UsageError(f"invalid detach keys ({text}): Unknown character: '{key}'")
    return bytes(codes)


class DetachScanner:
    """Looks for the key sequence in what is typed. A beginning of it is held back until it is clear what follows."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what to send on, whether the user asked to detach)."""
        if not self._keys:
            return data, False
        output = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    return bytes(output), True
                continue
            output += self._keys[: self._matched]
            self._matched = 0
            if byte == self._keys[0]:
                self._matched = 1
            else:
                output.append(byte)
        return bytes(output), False
