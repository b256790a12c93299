"""COPY: files and trees into a root, where their paths lead as the container would see them. Runs in worker jobs.

The root is a directory fd (the overlay mount of a step). Every path in it is resolved by `linux.paths`; what is made
is made in an opened directory by its last component, never through a symlink.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from sampan.build.ignore import Ignore
from sampan.build.tree import Entry, walk
from sampan.errors import InvalidArgument
from sampan.linux import paths

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PIECE = 1 << 30
_ATTRIBUTES = ("user.", "system.posix_acl_", "security.capability")


@dataclass(frozen=True, slots=True)
class Look:
    """`owner` and `mode` of what is copied; None: as the source has it. New directories above get the owner, too."""

    owner: tuple[int, int] | None = (0, 0)
    mode: int | None = None

    @property
    def parents(self) -> tuple[int, int]:
        return self.owner or (0, 0)


class Target:
    """A root that is copied into. The process's umask must be 0. `finish` sets what has to be set last."""

    def __init__(self, root: int, look: Look) -> None:
        self._root = root
        self._look = look
        self._times: dict[str, int] = {}
        self._links: dict[tuple[int, int], str] = {}
        self._open = ("", -1)

    @property
    def owner(self) -> tuple[int, int] | None:
        return self._look.owner

    def is_dir(self, path: str) -> bool:
        """Does the path lead to a directory?"""
        try:
            os.close(paths.open_in_root(self._root, path, os.O_PATH | os.O_DIRECTORY))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def directory(self, path: str) -> int:
        """The directory, made if missing; the caller closes the fd."""
        os.close(self._ensure(path))
        return paths.open_in_root(self._root, path, _DIR)

    def _ensure(self, path: str) -> int:
        try:
            return paths.ensure_dir(self._root, path, 0o755, *self._look.parents)
        except NotADirectoryError as error:
            raise InvalidArgument(f"cannot copy to non-directory: {path}") from error

    def _locate(self, path: str) -> tuple[int, str]:
        """Where a file called `path` ends up: the fd of the directory, made if missing, and the name in it."""
        place = path
        for _ in range(paths.MAX_LINKS):
            parent = place.rstrip("/").rpartition("/")[0] or "/"
            os.close(self._ensure(parent))
            directory, name = paths.open_parent(self._root, place)
            try:
                target = os.readlink(name, dir_fd=directory)
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOENT):  # no symlink; nothing yet
                    return directory, name
                os.close(directory)
                raise
            os.close(directory)
            place = target if target.startswith("/") else f"{parent}/{target}"
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def file(self, source: int, status: os.stat_result, path: str) -> None:
        """The regular file behind the fd `source` to `path`; a symlink there is followed, as a shell's `>` does."""
        directory, name = self._locate(path)
        try:
            self._regular(source, status, directory, name, path)
        finally:
            os.close(directory)

    def text(self, data: bytes, path: str) -> None:
        """A new file with this content, 0644: a heredoc."""
        directory, name = self._locate(path)
        try:
            self._clear(directory, name, path)
            with open(os.open(name, _NEW, 0o600, dir_fd=directory), "wb", buffering=0) as file:
                file.write(data)
                os.fchown(file.fileno(), *self._look.parents)
                os.fchmod(file.fileno(), 0o644 if self._look.mode is None else self._look.mode)
        finally:
            os.close(directory)

    def tree(self, top: int, path: str, exclude: Ignore | None = None) -> None:
        """What the directory fd `top` holds into the directory `path`. Directories that are there are merged with.

        A new `path` looks like `top`; one that is there keeps its look.
        """
        if not self.is_dir(path):
            os.close(self._ensure(path))
            self._dress_dir(path, os.fstat(top), top)
        for entry in walk(top, exclude):
            place = f"{path.rstrip('/')}/{entry.path}"
            directory = self._parent(place.rpartition("/")[0] or "/")
            if entry.is_dir:
                self._merge(entry, directory, place)
            else:
                self._place(entry, directory, place)

    def finish(self) -> None:
        """Directories' times last: what is made in them changes them."""
        self.close()
        for path, mtime in self._times.items():
            fd = paths.open_in_root(self._root, path, _DIR)
            try:
                os.utime(fd, ns=(mtime, mtime))
            finally:
                os.close(fd)
        self._times = {}

    def close(self) -> None:
        if self._open[1] >= 0:
            os.close(self._open[1])
        self._open = ("", -1)

    def _parent(self, path: str) -> int:
        """The directory an entry goes to; entries of one directory come one after the other."""
        if self._open[0] != path:
            self.close()
            self._open = (path, self._ensure(path))
        return self._open[1]

    def _merge(self, entry: Entry, directory: int, place: str) -> None:
        try:
            os.mkdir(entry.name, 0o700, dir_fd=directory)
        except FileExistsError:
            if not self.is_dir(place):
                raise InvalidArgument(f"cannot copy to non-directory: {place}") from None
            if stat.S_ISLNK(os.stat(entry.name, dir_fd=directory, follow_symlinks=False).st_mode):
                return  # as /lib is in most images: what it leads to is entered, but keeps its look
        source = os.open(entry.name, _DIR | os.O_NOFOLLOW, dir_fd=entry.directory)
        try:
            self._dress_dir(place, entry.status, source)
        finally:
            os.close(source)

    def _dress_dir(self, place: str, status: os.stat_result, source: int) -> None:
        fd = paths.open_in_root(self._root, place, _DIR)
        try:
            self._dress(fd, status, source)
        finally:
            os.close(fd)
        self._times[place] = status.st_mtime_ns

    def _place(self, entry: Entry, directory: int, place: str) -> None:
        mode = entry.status.st_mode
        if stat.S_ISREG(mode):
            source = entry.open()
            try:
                self._regular(source, entry.status, directory, entry.name, place)
            finally:
                os.close(source)
        elif not stat.S_ISSOCK(mode):  # a socket is of no use without its owner
            self._special(entry, directory, place)

    def _special(self, entry: Entry, directory: int, place: str) -> None:
        """A symlink, FIFO or device: made anew, never opened."""
        status = entry.status
        self._clear(directory, entry.name, place)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(entry.target, entry.name, dir_fd=directory)
        else:
            kind = stat.S_IFMT(status.st_mode)
            os.mknod(entry.name, kind | self._mode(status), status.st_rdev, dir_fd=directory)
        os.chown(entry.name, *self._owner(status), dir_fd=directory, follow_symlinks=False)
        os.utime(entry.name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=directory, follow_symlinks=False)

    def _regular(self, source: int, status: os.stat_result, directory: int, name: str, place: str) -> None:
        self._clear(directory, name, place)
        if self._linked(status, directory, name, place):
            return
        fd = os.open(name, _NEW, 0o600, dir_fd=directory)
        try:
            _copy_content(source, fd, place)
            self._dress(fd, status, source)
            os.utime(fd, ns=(status.st_mtime_ns, status.st_mtime_ns))
        finally:
            os.close(fd)

    def _linked(self, status: os.stat_result, directory: int, name: str, place: str) -> bool:
        """A second name of a file that was copied already stays one."""
        if status.st_nlink < 2:
            return False
        inode = (status.st_dev, status.st_ino)
        first = self._links.setdefault(inode, place)
        if first == place:
            return False
        parent, first_name = paths.open_parent(self._root, first)
        try:
            os.link(first_name, name, src_dir_fd=parent, dst_dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:  # replaced by a later source
            self._links[inode] = place
            return False
        finally:
            os.close(parent)
        return True

    def _clear(self, directory: int, name: str, place: str) -> None:
        """Make room for something that is no directory."""
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError) as error:
            if error.errno == errno.EPERM or isinstance(error, IsADirectoryError):
                raise InvalidArgument(f"cannot replace the directory {place} with a file") from error
            raise

    def _owner(self, status: os.stat_result) -> tuple[int, int]:
        return self._look.owner or (status.st_uid, status.st_gid)

    def _mode(self, status: os.stat_result) -> int:
        return stat.S_IMODE(status.st_mode) if self._look.mode is None else self._look.mode

    def _dress(self, fd: int, status: os.stat_result, source: int) -> None:
        """Owner first: chown(2) takes the setuid bits and the capabilities away."""
        os.fchown(fd, *self._owner(status))
        os.fchmod(fd, self._mode(status))
        for name in os.listxattr(source):
            # trusted.overlay.* would tell overlayfs what a layer means
            if name.startswith(_ATTRIBUTES) and not name.startswith("user.overlay."):
                os.setxattr(fd, name, os.getxattr(source, name))


def _copy_content(source: int, target: int, place: str) -> None:
    try:
        while os.sendfile(target, source, None, _PIECE):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, place) from error
