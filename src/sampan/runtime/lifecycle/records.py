"""The state directory: what is known of each container, for commands that come later and know nothing.

    ROOT/ID/            0700; locked (flock) while a command changes the container
        state.json      Record; written whole and renamed into place
        config.json     the spec as it was at create: later changes of the bundle mean nothing (runtime.md, "Lifecycle")
        start.sock      while created: the init stage listens on it (create.py)
        notify/         where the program says that it is ready (notify.py); seldom
    ROOT/.seccomp/      compiled filters; no container's

Making the directory is what claims the id. A record without a pid belongs to a create that is at work, or was killed.
"""

from __future__ import annotations

import fcntl
import os

from sampan.errors import Conflict, Forbidden, InvalidArgument, NotFound
from sampan.lean.structs import DecodeError, Struct, decode, encode
from sampan.linux import cgroup, paths
from sampan.linux.cgroup.host import Host
from sampan.oci import runtime as oci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from sampan.linux.cgroup import Group

START_SOCKET = "start.sock"
FILTERS = ".seccomp"
"""Beside the containers' directories: the cache of compiled seccomp policies (filters.py)."""

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_MAX_FILE = 16 << 20


class Record(Struct, rename="camel", kw_only=True):
    """What state.json holds. `pid` is 0 until the init stage is ready; `start_time` is its in clock ticks since boot
    (proc(5), stat field 22), so that a pid used again is not taken for it. `creator` is the runtime at work while there
    is no pid. `cgroups`: controller → directory, written before the directories are made; `cgroup_id`: Group.identity,
    once they are. `host` None: without cgroups. `watched`: an exec has put somebody inside who may trace others, though
    the spec does not let process 1 do so.
    """

    id: str
    bundle: str
    rootfs: str
    created: str
    owner: str = ""
    pid: int = 0
    start_time: int = 0
    creator: int = 0
    creator_start_time: int = 0
    cgroups_path: str = ""
    cgroups: dict[str, str] = {}
    cgroup_id: int = 0
    systemd: bool = False
    host: Host | None = None
    annotations: dict[str, str] = {}
    watched: bool = False


def check_id(container_id: str) -> str:
    """Raises InvalidArgument, in runc's words, for what is not a container id: ids become names of files."""
    if not container_id or container_id in (".", "..") or not _NAME_CHARACTERS.issuperset(container_id):
        raise InvalidArgument("invalid container ID format")
    if container_id == FILTERS:
        raise InvalidArgument(f"invalid container ID: {FILTERS} is the runtime's own directory")
    if len(container_id) > 255:
        raise InvalidArgument(f"invalid container ID format: longer than 255 characters: {container_id[:20]}…")
    return container_id


class Registry:
    """All containers below one root directory, which is made (0711) when the first one is."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    def create(self, container_id: str) -> Entry:
        """Claim an id; the entry is locked. Raises Conflict when it is taken, OSError with the path."""
        check_id(container_id)
        _make_root(self.root, 0o711)
        path = f"{self.root}/{container_id}"
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            raise Conflict(f"container with given ID already exists: {container_id}") from None
        return self._opened(container_id)

    def open(self, container_id: str) -> Entry:
        """A container that was made. Raises NotFound, Forbidden for one of another user."""
        check_id(container_id)
        return self._opened(container_id)

    def ids(self) -> list[str]:
        """The ids of all containers, sorted."""
        try:
            names = os.listdir(self.root)
        except FileNotFoundError:
            return []
        return sorted(name for name in names if name != FILTERS and self._is_entry(name))

    def _is_entry(self, name: str) -> bool:
        return os.path.isdir(f"{self.root}/{name}")  # allowed: the directory is ours

    def _opened(self, container_id: str) -> Entry:
        path = f"{self.root}/{container_id}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"container does not exist: {container_id}") from None
        owner = os.fstat(fd).st_uid
        if owner != os.geteuid():  # its config.json has hooks, its state.json pids: we would run and kill for him
            os.close(fd)
            raise Forbidden(f"container {container_id} below {self.root} belongs to user {owner}")
        return Entry(self.root, container_id, fd)


def _make_root(path: str, mode: int) -> None:
    """The directory and those above it, not to be written by others, whatever the umask."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make_root(os.path.dirname(path), 0o755)
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            pass  # by another call, this moment


class Entry:
    """One container's directory, by descriptor. A context manager; `close` releases the lock, too."""

    def __init__(self, root: str, container_id: str, fd: int) -> None:
        self.root = root
        self.id = container_id
        self.fd = fd

    def __enter__(self) -> Entry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def lock(self, wait: bool = True) -> bool:
        """Be the only command that changes this container, until `close`. False: not waited for, and held by another.

        Raises NotFound when the container was deleted meanwhile.
        """
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        if os.fstat(self.fd).st_nlink == 0:
            raise NotFound(f"container does not exist: {self.id}")
        return True

    def unlock(self) -> None:
        """Let other commands change the container again."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def in_use(self) -> bool:
        """Whether a command that changes the container is at work. Asked by another descriptor: that has no lock."""
        probe = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(probe)

    def read(self) -> Record:
        """Raises NotFound when the record is not written yet or not any more, InvalidArgument when it is damaged."""
        try:
            return decode(self._read_file("state.json"), Record)
        except FileNotFoundError:
            raise NotFound(f"container {self.id} has no state.json: its create was interrupted") from None
        except DecodeError as error:
            raise InvalidArgument(f"{self.root}/{self.id}/state.json is damaged: {error}") from error

    def write(self, record: Record) -> None:
        self.write_file("state.json", encode(record))

    def spec(self) -> oci.Spec:
        """The spec as it was at create. Raises NotFound, InvalidArgument."""
        try:
            spec = decode(self._read_file("config.json"), oci.Spec)
        except FileNotFoundError:
            raise NotFound(f"container {self.id} has no config.json: its create was interrupted") from None
        except DecodeError as error:
            raise InvalidArgument(f"{self.root}/{self.id}/config.json is damaged: {error}") from error
        if spec.process is None or spec.linux is None:
            raise InvalidArgument(f"{self.root}/{self.id}/config.json is damaged: it lacks process or linux")
        return spec

    def group(self, record: Record) -> Group | None:
        """The container's cgroup, whether it is still there or not. None when it was made without, or when another
        container's has taken its place (the spec's cgroupsPath is free once the last process has ended).
        """
        if record.host is None:
            return None
        if record.systemd:
            from sampan.linux.cgroup import systemd  # allowed: only with the systemd driver

            found: Group = systemd.open(record.host, record.cgroups_path, record.cgroups)
        elif record.cgroups:
            found = cgroup.Group(record.host, record.cgroups_path, record.cgroups)
        else:
            return None
        return found if not record.cgroup_id or found.identity() in (0, record.cgroup_id) else None

    def write_file(self, name: str, data: bytes) -> None:
        """Whole or not at all."""
        temporary = f".{name}.new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=self.fd)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view):]
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def forget_socket(self) -> None:
        """Nobody listens there any more."""
        try:
            os.unlink(START_SOCKET, dir_fd=self.fd)
        except FileNotFoundError:
            pass  # a delete was as fast

    def _read_file(self, name: str) -> bytes:
        return paths.read_file(self.fd, name, _MAX_FILE)

    def remove(self) -> None:
        """Take the directory away; the id is free again. What is in it goes first, state.json last of all."""
        for name in sorted(os.listdir(self.fd), key=lambda name: name == "state.json"):
            paths.remove_tree(self.fd, name)
        try:
            os.rmdir(f"{self.root}/{self.id}")  # allowed: the id was checked, the root is ours
        except FileNotFoundError:
            pass  # another delete was as fast
