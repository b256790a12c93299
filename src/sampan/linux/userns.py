"""user_namespaces(7): made ahead and held by descriptor."""

from __future__ import annotations

import errno
import os

from sampan.linux import clone, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.oci.runtime import IDMapping

Mapping = tuple[int, int, int]  # first id inside, first id on the host, how many


def create(uid_map: Sequence[Mapping], gid_map: Sequence[Mapping]) -> int:
    """A new user namespace with these mappings, as a descriptor the caller closes. Raises OSError with the file.

    A namespace needs a first process; that one only waits to be told to end, and the descriptor keeps the namespace.
    """
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    try:
        pid, pidfd = clone.clone3(clone.NEWUSER)
        if pid == 0:
            os.close(go_write)
            os.read(go_read, 1)
            os._exit(0)
        try:
            write_map(pid, "uid_map", uid_map)
            write_map(pid, "gid_map", gid_map)
            return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            signals.pidfd_send_signal(pidfd, signals.SIGKILL)
            os.waitpid(pid, 0)
            os.close(pidfd)
    finally:
        os.close(go_read)
        os.close(go_write)


def of_spec(entries: Sequence[IDMapping]) -> list[Mapping]:
    """The mappings as the OCI spec writes them."""
    return [(entry.container_id, entry.host_id, entry.size) for entry in entries]


def write_map(pid: int, name: str, entries: Sequence[Mapping]) -> None:
    """Map the ids of a new user namespace, once; `name` is "uid_map" or "gid_map". Raises OSError with the file."""
    try:
        _write(f"/proc/{pid}/{name}", "".join(f"{inside} {outside} {size}\n" for inside, outside, size in entries))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        reason = "no such mapping: its ranges overlap, or are more than 340 or 4 KiB of text"
        raise OSError(error.errno, reason, name) from error


def deny_setgroups(pid: int) -> None:
    """The price of mapping a group without privileges (CVE-2014-8989): nobody inside can ever change groups."""
    _write(f"/proc/{pid}/setgroups", "deny")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def is_initial() -> bool:
    """Whether this process is in the host's own user namespace, the only one that maps every id to itself."""
    return read_map("self", "uid_map") == [(0, 0, 2**32 - 1)]


def read_map(pid: int | str, name: str) -> list[Mapping]:
    """The mappings of a process's user namespace; `name` is "uid_map" or "gid_map"."""
    with open(f"/proc/{pid}/{name}", encoding="utf-8") as file:
        return [tuple(int(word) for word in line.split()) for line in file]  # type: ignore[misc]


def to_host(entries: Sequence[Mapping], number: int) -> int:
    """The host's id for an id inside. Raises OSError EINVAL when it is not mapped."""
    for inside, outside, size in entries:
        if inside <= number < inside + size:
            return outside + number - inside
    raise OSError(22, f"id {number} is not mapped in the container's user namespace")
