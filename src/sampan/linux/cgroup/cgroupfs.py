"""The cgroupfs driver: makes and removes a group's directories itself.

Another driver (systemd over D-Bus) is a module with the same two functions, `make` and `remove`.
"""

from __future__ import annotations

import errno
import os

from sampan.errors import Conflict, InvalidArgument, Unsupported
from sampan.linux.cgroup import controlfile
from sampan.linux.cgroup.host import Host, hierarchies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

UNIFIED = "unified"
"""The key of the v2 directory among a group's directories; any other key is a v1 controller."""

_IN_USE = (errno.EBUSY, errno.ENOTEMPTY)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_CANNOT_ENABLE = (*_REFUSED, errno.ENOENT, errno.EBUSY, errno.EINVAL, errno.EOPNOTSUPP)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def directories(host: Host, path: str, controllers: Iterable[str] | None = None) -> dict[str, str]:
    """Where a group of that path is, made or not: controller → directory. `path` is relative to each hierarchy's root.

    `controllers`: the v1 hierarchies to take part in; None is every one that matters. Raises InvalidArgument for a path
    that is not plain names.
    """
    names = check_path(path)
    wanted = set(hierarchies(host) if controllers is None else controllers)
    found = {name: f"{mount_point}/{names}" for name, mount_point in host.v1.items() if name in wanted}
    if host.v2:
        found[UNIFIED] = f"{host.v2}/{names}"
    return found


def check_path(path: str) -> str:
    """The path without slashes around it. Raises InvalidArgument for anything that could lead elsewhere."""
    names = path.strip("/")
    try:
        length = len(os.fsencode(names))
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can express
        length = 0
    if not 0 < length <= 3000 or "\0" in names or "\n" in names:
        raise InvalidArgument(f"invalid cgroup path: {path!r}")
    for name in names.split("/"):
        if name in ("", ".", "..") or len(os.fsencode(name)) > 255:
            raise InvalidArgument(f"invalid cgroup path: {path!r}")
    return names


def make(host: Host, path: str, controllers: Iterable[str] | None = None) -> dict[str, str]:
    """Make the group's directories; all or nothing. Returns them (see `directories`).

    An empty directory of that name, left by a crash, is made anew, so that no old limit stays. Raises Conflict when
    it is in use, InvalidArgument, Unsupported, or OSError with the path.
    """
    found = directories(host, path, controllers)
    made: list[str] = []
    try:
        for directory in dict.fromkeys(found.values()):
            made.extend(_make_fresh(directory, host))
        if "cpuset" in found:
            _fill_cpuset(found["cpuset"])
        if host.mode == "v2":
            enable(host, path, host.v2_controllers, required=False)
    except BaseException:
        _undo(made)
        raise
    return found


def adopt(host: Host, path: str, controllers: Iterable[str] | None = None) -> dict[str, str]:
    """`make` for a group that another program (systemd) has made in some hierarchies: what is there stays as it is."""
    found = directories(host, path, controllers)
    made: list[str] = []
    try:
        for directory in dict.fromkeys(found.values()):
            for _ in range(3):  # a slice may be pruned meanwhile
                try:
                    made.extend(_make_parents(directory, host))
                    break
                except FileNotFoundError:
                    continue
            else:
                raise Conflict(f"cgroup {directory} is being removed by somebody else")
    except BaseException:
        _undo(made)
        raise
    return found


def path_of(host: Host, found: Mapping[str, str]) -> str:
    """The path of a group from its directories: the other way round of `directories`. Raises InvalidArgument."""
    for controller, directory in found.items():
        mount_point = host.v2 if controller == UNIFIED else host.v1.get(controller, "")
        if mount_point and directory.startswith(f"{mount_point}/"):
            return check_path(directory.removeprefix(mount_point))
    raise InvalidArgument(f"in no cgroup hierarchy here: {', '.join(found.values()) or 'a group without paths'}")


def _make_fresh(directory: str, host: Host) -> list[str]:
    """Make a directory and what is missing above it; returns what was made, top first. Undoes itself on failure."""
    made: list[str] = []
    try:
        for _ in range(3):
            try:
                os.mkdir(directory)
                made.append(directory)
                return made
            except FileNotFoundError:
                made.extend(_make_parents(os.path.dirname(directory), host))
            except FileExistsError:
                _remove_left_over(directory)
        raise Conflict(f"cgroup {directory} is being made by somebody else")
    except BaseException:
        _undo(made)
        raise


def _undo(made: list[str]) -> None:
    """Remove what was made, but a parent in which somebody else has a group by now."""
    for directory in reversed(made):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in _IN_USE:
                raise


def _remove_left_over(directory: str) -> None:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise Conflict(f"cgroup {directory} is in use by other processes") from error
        raise


def _make_parents(directory: str, host: Host) -> list[str]:
    """Make missing ancestors. They may be shared with other groups: two makers at once are no error."""
    missing = []
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    made = []
    for name in reversed(missing):
        try:
            os.mkdir(name)
            made.append(name)
        except FileExistsError:
            pass
        if name.startswith(host.v1.get("cpuset", "\0") + "/"):
            _fill_cpuset(name)
            # Children then get their parent's cpus and mems from mkdir(2): saves two opens and writes a start.
            controlfile.set_value(name, "cgroup.clone_children", "1")
    return made


def _fill_cpuset(directory: str) -> None:
    """A v1 cpuset is born empty, and takes no process until cpus and mems are copied down from its parent."""
    parent = os.path.dirname(directory)
    for name in ("cpuset.mems", "cpuset.cpus"):
        if controlfile.read(directory, name).strip():
            return  # clone_children did both
        value = controlfile.read(parent, name).strip()
        if not value:
            _fill_cpuset(parent)
            value = controlfile.read(parent, name).strip()
        controlfile.set_value(directory, name, value)


def enable(host: Host, path: str, controllers: Iterable[str], required: bool = True) -> None:
    """Enable v2 controllers for the group: in the subtree_control of every ancestor, from the root down.

    The kernel allows that only in ancestors without processes of their own (the "no internal process" rule; a real
    root is exempt). Raises Conflict for such an ancestor, Forbidden for one of somebody else, Unsupported for a
    controller that v2 lacks here; unless `required`, what cannot be enabled is left out instead: a group that is not
    limited can do without.
    """
    wanted = list(controllers)
    names = check_path(path).split("/")
    if _missing(f"{host.v2}/{'/'.join(names[:-1])}".rstrip("/"), wanted):
        for depth in range(len(names)):
            _enable_in("/".join([host.v2, *names[:depth]]), wanted, required)


def _missing(directory: str, wanted: list[str]) -> list[str]:
    enabled = controlfile.read(directory, "cgroup.subtree_control").split()
    return [name for name in wanted if name not in enabled]


def _enable_in(directory: str, wanted: list[str], required: bool) -> None:
    for name in _missing(directory, wanted):
        try:
            controlfile.write(directory, "cgroup.subtree_control", f"+{name}")
        except OSError as error:
            if not required and error.errno in _CANNOT_ENABLE:
                continue
            if error.errno == errno.EBUSY:
                raise Conflict(
                    f"cgroup {directory} has processes of its own, so the kernel cannot enable the {name} controller "
                    "below it: move them into a sub-cgroup"
                ) from error
            if error.errno == errno.ENOENT:
                raise Unsupported(f"the {name} cgroup controller is not available in {directory}") from error
            raise controlfile.failed(error, f"{directory}/cgroup.subtree_control", f"+{name}") from error


def remove(directory: str) -> bool:
    """Remove a group's directory and the sub-cgroups that its processes made. True when it is gone.

    False: a process is still in it. Raises OSError for anything else.
    """
    try:
        os.rmdir(directory)
        return True
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in _IN_USE:
            raise
    try:
        for parent_fd, name in sub_groups(directory):
            try:
                os.rmdir(name, dir_fd=parent_fd)
            except FileNotFoundError:
                continue  # its maker was first
        os.rmdir(directory)
    except FileNotFoundError:
        return not os.path.isdir(directory)
    except OSError as error:
        if error.errno in _IN_USE:
            return False
        raise
    return True


def sub_groups(directory: str) -> Iterator[tuple[int, str]]:
    """All groups below a directory, deepest first, as (descriptor of the parent, name).

    A container with a writable cgroup makes them as deep as it likes, paths beyond PATH_MAX included: so this walks
    with two descriptors, down by name and up by "..". One that is removed meanwhile is left out, or yielded though
    it is gone; the others are there all the same. Raises OSError.
    """
    fd = os.open(directory, _DIRECTORY)
    try:
        names: list[str] = []
        unseen = [_children(fd)]
        while unseen[0] or names:
            if unseen[-1]:
                name = unseen[-1].pop()
                try:
                    fd = _move(fd, name)
                except FileNotFoundError:
                    continue
                names.append(name)
                unseen.append(_children(fd))
            else:
                unseen.pop()
                fd = _move(fd, "..")
                yield fd, names.pop()
    finally:
        os.close(fd)


def _move(fd: int, name: str) -> int:
    there = os.open(name, _DIRECTORY, dir_fd=fd)
    os.close(fd)
    return there


def _children(fd: int) -> list[str]:
    try:
        with os.scandir(fd) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:  # removed since it was opened
        return []


def prune(host: Host, path: str) -> None:
    """Remove a parent of groups, and its own parents, where nothing is left in them. What is in use stays."""
    depth = check_path(path).count("/") + 1
    for directory in dict.fromkeys(directories(host, path).values()):
        prune_up(directory, depth)


def prune_up(directory: str, depth: int) -> None:
    """`prune` for one hierarchy: the directory and those above it, `depth` at most."""
    for _ in range(depth):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in _IN_USE:
                raise
            return
        directory = os.path.dirname(directory)
