"""nftables by libnftables(3): nft's own command language, without a process per command.

One transaction per call: either all commands of the text take effect, or none does.
"""

from __future__ import annotations

import ctypes
import errno
import json
import socket
from typing import Any

from sampan.errors import Internal, Unsupported
from sampan.linux.netlink import NETLINK_NETFILTER, Message, attributes, messages, string

_LIBRARY = "libnftables.so.1"
_JSON = 1 << 4  # NFT_CTX_OUTPUT_JSON
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
_NFNLGRP_NFTABLES, _SUBSYSTEM, _DELTABLE, _NEWGEN = 7, 10, 2, 15
_TABLE_NAME = 1  # NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, …: the same number in all messages


class NftError(Internal):
    """The commands were refused; the text is nft's own. Nothing of the transaction took effect."""


class Nft:
    """A connection to nftables in the network namespace it was made in. For one thread."""

    def __init__(self) -> None:
        self._library = _load()
        self._context: int | None = self._library.nft_ctx_new(0)
        if not self._context:
            raise Unsupported("nftables cannot be used: libnftables gave no context")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def run(self, commands: str) -> str:
        """Run commands as `nft -f -` would and return their output. Raises NftError."""
        return self._run(commands, 0)

    def query(self, commands: str) -> list[dict[str, Any]]:
        """Run commands and return what they list, as libnftables-json(5) describes it. Raises NftError."""
        output = self._run(commands, _JSON)
        return list(json.loads(output)["nftables"]) if output else []

    def close(self) -> None:
        """Idempotent."""
        if self._context:
            self._library.nft_ctx_free(self._context)
        self._context = None

    def _run(self, commands: str, flags: int) -> str:
        if "\0" in commands:
            raise NftError("nft commands cannot contain NUL")
        self._library.nft_ctx_output_set_flags(self._context, flags)
        status = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        output: bytes = self._library.nft_ctx_get_output_buffer(self._context) or b""
        error: bytes = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if status != 0:
            raise NftError(_one_line(error.decode(errors="replace")))
        return output.decode(errors="replace")


def _one_line(error: str) -> str:
    """nft's messages without the source lines and marks below them."""
    said = [line.split("Error: ", 1)[1] for line in error.splitlines() if "Error: " in line]
    return "nftables: " + ("; ".join(dict.fromkeys(said)) or error.strip() or "unknown error")


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise Unsupported(f"{_LIBRARY} is missing (Debian package libnftables1): {error}") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


class RulesetWatch:
    """Readable when anybody has changed the ruleset of the network namespace it was made in (NFNLGRP_NFTABLES)."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._sock = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
        try:
            self._sock.bind((0, 0))
            self._sock.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        except BaseException:
            self._sock.close()
            raise

    def fileno(self) -> int:
        return self._sock.fileno()

    def read(self) -> set[tuple[str, bool]]:
        """(table, whether it was deleted) of each change since the last call; ("", True) when too many were made to be
        told. Never blocks."""
        changes: set[tuple[str, bool]] = set()
        while True:
            try:
                data = self._sock.recv(1 << 17)
            except BlockingIOError:
                return changes
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                changes.add(("", True))
                continue
            changes.update(_change(message) for message in messages(data) if _is_change(message))

    def close(self) -> None:
        """Idempotent."""
        self._sock.close()


def _is_change(message: Message) -> bool:
    """Each transaction ends with a NEWGEN, which is about no table."""
    return message.kind >> 8 == _SUBSYSTEM and message.kind & 0xFF != _NEWGEN


def _change(message: Message) -> tuple[str, bool]:
    name = attributes(message.body[4:]).get(_TABLE_NAME, b"")
    return string(name), message.kind & 0xFF == _DELTABLE
