"""Compiled seccomp policies kept as files: compiling one takes 20 ms, finding it again takes none."""

from __future__ import annotations

import _blake2
import errno
import os
import stat

from sampan.lean import structs
from sampan.linux import seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.runtime import Seccomp

_REMEMBERED = 64
_FORMAT = 3
"""Part of the key: raise it when the same policy comes out as other bytes."""


class Cache:
    """Compiled policies under a directory, by hash of the policy: `DIRECTORY/<blake2b>.bpf`, 0700.

    Many processes may use one directory at once: files appear complete (rename) and never change. One that was torn all
    the same, by a crash of the host, is seen when it is read, and made anew.
    """

    def __init__(self, directory: str) -> None:
        """Makes the directory, in one that is there. Raises OSError: EPERM for one of somebody else, whose filters we
        would load.
        """
        self._directory = directory
        self._recent: dict[int, tuple[Seccomp, str]] = {}  # by identity: hashing a policy takes 60 µs
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            pass
        status = os.lstat(directory)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError(errno.EPERM, "is not a directory that we alone may write", directory)

    def filter(self, policy: Seccomp) -> seccomp.Filter:
        """The compiled policy, compiled now if it is new. Raises as Compiler.compile, or OSError."""
        return seccomp.read(self.path(policy))

    def path(self, policy: Seccomp) -> str:
        """The file that holds the compiled policy for `seccomp.read`, compiled now if it is new. Raises as `filter`.

        A policy that was asked for is not to be changed afterwards.
        """
        known = self._recent.get(id(policy))
        if known is not None and os.path.exists(known[1]):
            return known[1]
        _, version = seccomp.open_library()  # 0.1 ms; it tells which names of system calls the library knows
        key = _blake2.blake2b(
            structs.encode([_FORMAT, version, os.uname().machine, _compiled(policy)]), digest_size=32
        ).hexdigest()
        path = f"{self._directory}/{key}.bpf"
        if not _is_whole(path):
            from sampan.linux.seccomp_compiler import Compiler  # allowed: rare, and never in a container

            _write(path, seccomp.to_file(seccomp.Filter(Compiler().compile(policy), seccomp.flags_of(policy))))
        if len(self._recent) >= _REMEMBERED:
            self._recent.clear()
        self._recent[id(policy)] = policy, path  # the policy is kept, so its id stays its own
        return path


def _compiled(policy: Seccomp) -> object:
    """What of a policy is compiled: its agent, and what that is told, may be others for each container."""
    if not policy.listener_path and not policy.listener_metadata:
        return policy
    members = structs.to_builtins(policy)
    for name in ("listenerPath", "listenerMetadata"):
        members.pop(name, None)
    return members


def _is_whole(path: str) -> bool:
    try:
        seccomp.read(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno != errno.EBADMSG:
            raise
        return False
    return True


def _write(path: str, data: bytes) -> None:
    """Two may write the same at once, in different pid namespaces too: each its own file, the last rename wins."""
    temporary = f"{path}.{os.urandom(8).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            if os.write(fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), temporary)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
