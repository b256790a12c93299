"""Detach keys: a key sequence in a terminal's input that lets go of the container without ending it."""

from __future__ import annotations

from sampan.errors import InvalidArgument

DEFAULT = "ctrl-p,ctrl-q"


def parse(text: str) -> bytes:
    """"ctrl-p,ctrl-q" or "a,b" → the bytes. Raises InvalidArgument with Docker's words."""
    keys = b""
    for key in (text or DEFAULT).split(","):
        if len(key) == 1:
            keys += key.encode()
        elif key.startswith("ctrl-") and len(key) == 6 and key[5] in "abcdefghijklmnopqrstuvwxyz@[\\]^_":
            keys += bytes([ord(key[5].upper()) & 0x1F])
        else:
            raise InvalidArgument(f"Invalid detach keys ({text}) provided")
    return keys


class Scanner:
    """Looks for the keys in a stream that arrives in pieces; what only looked like them is passed on later."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what is input, whether the keys were typed). Input after the keys is dropped."""
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._held]:
                self._held += 1
                if self._held == len(self._keys):
                    self._held = 0
                    return bytes(out), True
                continue
            out += self._keys[: self._held]
            self._held = 0
            if byte == self._keys[0]:
                self._held = 1
            else:
                out.append(byte)
        return bytes(out), False
