"""Compiled seccomp policies kept as files: compiling one takes 20 ms, finding it again takes none."""

from __future__ import annotations

import _blake2
import os

from sampan.lean import structs
from sampan.linux.seccomp import Compiler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.runtime import Seccomp

_REMEMBERED = 64
_FORMAT = 1
"""Part of the key: raise it when the same policy comes out as other bytes."""


class Cache:
    """Compiled policies under a directory, by hash of the policy: `DIRECTORY/<blake2b>.bpf`, 0700.

    Many processes may use one directory at once: files appear complete (rename) and never change.
    """

    def __init__(self, directory: str) -> None:
        """Makes the directory. Raises OSError."""
        self._directory = directory
        self._compiler: Compiler | None = None
        self._recent: dict[int, tuple[Seccomp, str]] = {}  # by identity: hashing a policy takes 60 µs
        os.makedirs(directory, 0o700, exist_ok=True)
        os.chmod(directory, 0o700)

    def get(self, policy: Seccomp) -> bytes:
        """The compiled policy, compiled now if it is new. Raises as Compiler.compile, or OSError."""
        with open(self.path(policy), "rb") as file:
            return file.read()

    def path(self, policy: Seccomp) -> str:
        """The file that holds the compiled policy, compiled now if it is new. Raises as `get`.

        A policy that was asked for is not to be changed afterwards.
        """
        known = self._recent.get(id(policy))
        if known is not None and os.path.exists(known[1]):
            return known[1]
        if self._compiler is None:
            self._compiler = Compiler()
        key = _blake2.blake2b(
            structs.encode([_FORMAT, self._compiler.version(), os.uname().machine, policy]), digest_size=32
        ).hexdigest()
        path = f"{self._directory}/{key}.bpf"
        if not os.path.exists(path):
            self._write(path, self._compiler.compile(policy))
        if len(self._recent) >= _REMEMBERED:
            self._recent.clear()
        self._recent[id(policy)] = policy, path  # the policy is kept, so its id stays its own
        return path

    @staticmethod
    def _write(path: str, bpf: bytes) -> None:
        temporary = f"{path}.{os.getpid()}"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(bpf)
            os.replace(temporary, path)
        except OSError:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise
