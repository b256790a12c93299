"""The container's view of its cgroups: cgroups(7), cgroup_namespaces(7)."""

from __future__ import annotations

import errno
import os

from sampan.lean.record import dataclass
from sampan.linux import mount, mountinfo, userns
from sampan.runtime import target
from sampan.runtime.operation import Stage
from sampan.runtime.options import MountOptions

_HOST = "/sys/fs/cgroup"


@dataclass(frozen=True)
class Hierarchy:
    """One to show: the directory's name, the mount options that choose it ("" for v2), where the host has it."""

    name: str
    options: str
    point: str


@dataclass(frozen=True)
class MountCgroups:
    """v2 alone (no `hierarchies`), or a tmpfs with one directory per v1 hierarchy and, on a hybrid host, `unified`.

    In a cgroup namespace of its own (`own`), which has its group as the top of each hierarchy, they are mounted. In the
    host's, v1 hierarchies are binds of the container's own group; v2 is the host's, whole, as with runc.
    """

    destination: str
    options: MountOptions
    hierarchies: tuple[Hierarchy, ...] = ()
    own: bool = True

    def describe(self) -> str:
        names = [each.name for each in self.hierarchies]
        return f"mount cgroups {', '.join(names)}" if names else f"mount cgroup2 on {self.destination}"

    def apply(self, stage: Stage) -> None:
        place = target.open_directory(stage.root, self.destination)
        try:
            target.check(place, self.destination, False)
            if self.hierarchies:
                self._mount_v1(place)
            else:
                self._mount_v2(place)
        finally:
            os.close(place)

    def _mount_v2(self, place: int) -> None:
        fd = self._new_v2() if self.own else self._bind_host()
        mount.attach(fd, place)
        mount.propagate(fd, self.options.propagation)
        os.close(fd)

    def _new_v2(self) -> int:
        try:
            return mount.new("cgroup2", {"source": "cgroup"}, self.options.set)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EBUSY):
                raise
        return self._bind_host()

    def _bind_host(self) -> int:
        """What the host has, where the kernel mounts none (a user namespace), and where we are in its cgroup namespace:
        a mount made there gives its options to the one file system, and without any takes nsdelegate and
        memory_recursiveprot away from the host (apply_cgroup_root_flags() in the kernel; runc's issue 5258).

        With a cgroup namespace only the own group is shown. The whole tree is never writable in a user namespace, whose
        owner may own parts of it (CVE-2023-25809). A host without one: an empty directory.
        """
        try:
            own = own_groups()[""].rstrip("/") if self.own else ""  # "/": of a namespace that somebody else made
            fd = mount.clone_tree(f"{_HOST}{own}", recursive=True)
        except (FileNotFoundError, KeyError):
            return mount.new("tmpfs", {"source": "tmpfs", "nr_inodes": "1"}, mount.ATTR_RDONLY)
        mount.set_attributes(fd, self.options.set)
        if not own and not userns.is_initial():
            mount.set_attributes(fd, mount.ATTR_RDONLY, recursive=True)
        return fd

    def _mount_v1(self, place: int) -> None:
        attributes = self._attributes() & ~mount.ATTR_RDONLY
        top = mount.new("tmpfs", {"source": "tmpfs", "mode": "755"}, attributes)
        try:
            for each in self.hierarchies:
                if "," in each.name:
                    for alias in each.name.split(","):
                        os.symlink(each.name, alias, dir_fd=top)
                os.mkdir(each.name, 0o755, dir_fd=top)
            mount.attach(top, place)
            mount.propagate(top, self.options.propagation)
            if self.own:
                self._mount_own(top)
            else:
                self._bind_own(top)
            mount.set_attributes(top, self._attributes())
        finally:
            os.close(top)

    def _mount_own(self, top: int) -> None:
        for each in self.hierarchies:
            source = "systemd" if each.options == "name=systemd" else "cgroup"  # as runc: it is what mount(8) shows
            options: dict[str, str | None] = {"source": source}
            for word in filter(None, each.options.split(",")):
                key, separator, value = word.partition("=")
                options[key] = value if separator else None
            kind = "cgroup" if each.options else "cgroup2"
            self._mount_below(top, each.name, mount.new(kind, options, self._attributes()))

    def _bind_own(self, top: int) -> None:
        """Each hierarchy's own group; its mount may show only a part of the hierarchy (in a container, as engines run
        them): the group's path is counted from that part.
        """
        groups = {frozenset(names.split(",")): path for names, path in own_groups().items()}
        roots = tops()
        for each in self.hierarchies:
            wanted = set(each.options.split(","))
            own = next((path for names, path in groups.items() if wanted <= names), "/")
            fd = mount.clone_tree(f"{each.point}/{_below(own, roots.get(each.point, '/'))}", recursive=True)
            mount.set_attributes(fd, self._attributes(), recursive=True)
            self._mount_below(top, each.name, fd)

    def _attributes(self) -> int:
        """Of v1 hierarchies and their tmpfs: what nobody needs there is never on, as with runc."""
        return self.options.set | mount.ATTR_NOSUID | mount.ATTR_NODEV | mount.ATTR_NOEXEC

    def _mount_below(self, top: int, name: str, fd: int) -> None:
        place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top)
        mount.attach(fd, place)
        os.close(place)
        mount.propagate(fd, self.options.propagation)
        os.close(fd)


def own_groups() -> dict[str, str]:
    """This process's groups: controllers of a v1 hierarchy as "cpu,cpuacct" or "name=systemd", "" for v2 → path."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        return {line.split(":", 2)[1]: line.rstrip("\n").split(":", 2)[2] for line in file}


def tops() -> dict[str, str]:
    """Mount point of each cgroup mount → the group that is its root (mountinfo, proc(5)); of stacked ones the first."""
    found: dict[str, str] = {}
    for each in mountinfo.own():
        if each.kind in ("cgroup", "cgroup2"):
            found.setdefault(each.target, each.root)
    return found


def _below(path: str, root: str) -> str:
    """The path of a group from a mount's root: "/docker/a" below "/docker" is "a". Unrelated ones: the mount's top."""
    if root == "/":
        return path.strip("/")
    if path == root:
        return ""
    return path[len(root) + 1 :] if path.startswith(f"{root}/") else ""
