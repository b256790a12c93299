"""One group of processes over all hierarchies: make, limit, join, kill, freeze, remove; membership.py: join."""

from __future__ import annotations

import os

from sampan.errors import Conflict, Forbidden, NotFound, SampanError, Unavailable, Unsupported
from sampan.linux.cgroup import cgroupfs, controlfile, freezer, limits_v1, limits_v2, processes, requirements
from sampan.linux.cgroup.cgroupfs import UNIFIED
from sampan.linux.cgroup.host import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sampan.oci.runtime import Resources

_KILL_PATIENCE = 10.0


class Group:
    """A container's cgroup. Not thread-safe; holds no descriptors."""

    def __init__(self, host: Host, path: str, directories: dict[str, str]) -> None:
        """Use `create` or `open`. `directories`: controller, or "unified" for v2 → directory."""
        self.host = host
        self.path = path
        self._directories = directories
        self._unique = list(dict.fromkeys(directories.values()))
        self.warnings: list[str] = []
        """What a driver that limits the group as it makes it (systemd.py) found this host to lack."""

    @classmethod
    def create(cls, host: Host, path: str, controllers: Iterable[str] | None = None) -> Group:
        """Make a new group "parent/name" in every hierarchy that matters, or in those of `controllers` and v2.

        All or nothing. Raises Conflict when a group of that path has processes, InvalidArgument for a bad path,
        Unsupported for a missing v2 controller, OSError with the path.
        """
        return cls(host, path, cgroupfs.make(host, path, controllers))

    @classmethod
    def open(cls, host: Host, path: str) -> Group:
        """A group that exists, made by this or another process. Raises NotFound."""
        found = {
            controller: directory
            for controller, directory in cgroupfs.directories(host, path, host.v1).items()
            if os.path.isdir(directory)
        }
        if not found:
            raise NotFound(f"no cgroup {path}")
        return cls(host, path, found)

    @classmethod
    def at(cls, host: Host, path: str) -> Group:
        """The same, there or gone: for who made it, and wants it away."""
        return cls(host, path, cgroupfs.directories(host, path, host.v1))

    @classmethod
    def reopen(cls, host: Host, directories: Mapping[str, str]) -> Group:
        """A group from its `paths()`, as another process wrote them down; there or gone. Raises InvalidArgument."""
        return cls(host, cgroupfs.path_of(host, directories), dict(directories))

    def paths(self) -> dict[str, str]:
        """Controller → directory for v1 controllers; "unified" → the v2 directory. Enough for stats.read, `reopen`."""
        return dict(self._directories)

    def cpuset(self, which: str) -> str:
        """The group's own "cpus" or "mems" as a list ("0-2,4"); "" where they are not limited, or cannot be."""
        directory = self._directories.get("cpuset", self._directories.get(UNIFIED, ""))
        return controlfile.text(directory, f"cpuset.{which}").strip()

    def setting(self, name: str) -> str:
        """What a v2 control file says, a key of `unified`; "" where there is none. Raises InvalidArgument."""
        limits_v2.check_unified_name(name)
        return controlfile.text(self._directories.get(UNIFIED, ""), name).rstrip("\n")

    def exists(self) -> bool:
        """Whether any of its directories is there."""
        return any(os.path.isdir(directory) for directory in self._unique)

    def apply(self, resources: Resources) -> list[str]:
        """Write limits; what `resources` does not name stays as it is, so it serves creation and live update.

        Returns warnings, in Docker's words, for what this host lacks. Raises InvalidArgument for what the kernel
        refuses, with the file and the value (a memory limit below what is in use, say).
        """
        requirements.check_sizes(resources)
        if self.host.mode == "v2":
            self._enable(resources)
            return limits_v2.apply(self._directories[UNIFIED], resources)
        if resources.unified:
            name = next(iter(resources.unified))
            raise Unsupported(
                f"invalid configuration: unified setting {name!r} needs cgroup v2, this host has {self.host.mode}"
            )
        warnings = limits_v1.apply(self._directories, resources)
        sizes = [limit for limit in resources.hugepage_limits if limit.limit >= 0]
        if sizes and "hugetlb" not in self._directories:
            warnings += self._apply_hugetlb_unified(resources)
        return warnings

    def require(self, resources: Resources) -> None:
        """Refuse limits that this host, or the part of it that was delegated, has no file for: see requirements.py.

        Raises Unsupported, which names the file; `apply` would only warn. For the one who makes a container, not for
        the process that becomes it.
        """
        if self.host.mode == "v2":
            self._enable(resources)
        elif resources.hugepage_limits and "hugetlb" in self.host.v2_controllers:
            cgroupfs.enable(self.host, self.path, ["hugetlb"])
        requirements.check(self._directories, self.host.mode == "v2", resources)

    def _enable(self, resources: Resources) -> None:
        """Controllers that are enabled only when somebody asks for them, because each costs every group something; and
        those that could not be enabled as the group was made. Raises Conflict where processes are in the way, and
        InvalidArgument for the name of a file that is none.
        """
        for name in resources.unified:
            limits_v2.check_unified_name(name)
        for controller in requirements.lacking(self._directories[UNIFIED], resources):
            try:
                cgroupfs.enable(self.host, self.path, [controller])
            except (Unsupported, Forbidden):
                continue  # not here, or not delegated: what that means for the limits is for the caller to say

    def _apply_hugetlb_unified(self, resources: Resources) -> list[str]:
        """A hybrid host may have its hugetlb controller on v2: enabled there only when somebody asks for it."""
        if "hugetlb" not in self.host.v2_controllers:
            return ["Your kernel does not support huge page limits or the cgroup is not mounted. Limit discarded."]
        cgroupfs.enable(self.host, self.path, ["hugetlb"])
        limits_v2.apply_hugetlb(self._directories[UNIFIED], resources.hugepage_limits)
        return []

    def add(self, pid: int) -> None:
        """Move a process, all its threads, in. Slow (up to 30 ms after a pause): see the module; `join` is not."""
        for directory in self._unique:
            controlfile.set_value(directory, "cgroup.procs", pid)

    def open_join_fds(self, v2: bool = False) -> list[int]:
        """The files through which a child moves itself in (`join`), close-on-exec, the caller's to close.

        `v2` includes the v2 hierarchy, for kernels without CLONE_INTO_CGROUP (before 5.7).
        """
        unified = self._directories.get(UNIFIED)
        fds: list[int] = []
        try:
            for directory in self._unique:
                if directory != unified:
                    fds.append(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))
                elif v2:
                    fds.append(os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
        except BaseException:
            processes.close(fds)
            raise
        return fds

    def open_v2_fd(self) -> int | None:
        """The v2 directory for clone3's CLONE_INTO_CGROUP, close-on-exec, the caller's; None on a v1 host."""
        unified = self._directories.get(UNIFIED)
        return None if unified is None else os.open(unified, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def of_process(self, pid: int) -> Group:
        """This group, or on v2 the one below it that a process of it has moved to: where another can join it.

        A container with an init or an engine of its own moves its process 1 down and enables controllers below; the
        kernel then lets nobody into the top ("no internal processes", cgroups(7)). Raises OSError.
        """
        if self.host.mode != "v2":
            return self
        top = self._directories[UNIFIED]
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            paths = [line[3:].rstrip("\n") for line in file if line.startswith("0::")]
        directory = f"{self.host.v2}{paths[0]}" if paths else top
        below = directory.removeprefix(f"{top}/")
        if below == directory or ".." in below.split("/") or not os.path.isdir(directory):
            return self
        return Group(self.host, f"{self.path}/{below}", {UNIFIED: directory})

    def identity(self) -> int:
        """What tells this group from one that is made at its path later: kernfs never gives an inode number twice.

        0: it is not there.
        """
        try:
            return os.stat(self._reference()).st_ino
        except FileNotFoundError:
            return 0

    def procs(self) -> list[int]:
        """All processes in the group and in sub-cgroups made inside."""
        return processes.listing(self._reference())

    def _reference(self) -> str:
        """The directory whose list of processes is the group's: v2's, else a hierarchy that containers cannot leave."""
        for controller in (UNIFIED, "devices", "freezer"):
            if controller in self._directories:
                return self._directories[controller]
        return self._unique[0]

    def signal_all(self, number: int) -> None:
        """Send a signal to every process in the group; SIGKILL as `kill_all`, but nobody is waited for.

        Frozen meanwhile where that can be done, so that no process forks past it. In a paused group the signals wait;
        on v2 those that kill do not.
        """
        if number == processes.SIGKILL and UNIFIED in self._directories and self._kill_v2(self._directories[UNIFIED]):
            return
        freeze = not self.frozen()
        try:
            if freeze:
                self.freeze()
        except (Unavailable, Unsupported, Conflict):
            freeze = False  # one that does not stop does not keep the others from getting their signal
        try:
            processes.signal_listed(self._reference(), number)
        finally:
            if freeze:
                self._thaw_if_there()

    def kill_all(self) -> None:
        """SIGKILL every process in the group, frozen ones too, and wait until they have ended.

        In one step where the kernel can (cgroup.kill, Linux 5.14). Raises Unavailable when one does not end within
        10 s (stuck in the kernel).
        """
        if "freezer" in self._directories:
            self._kill_frozen_v1(self._directories["freezer"])
        unified = self._directories.get(UNIFIED)
        killed = unified is not None and self._kill_v2(unified)
        if killed and not processes.wait_unpopulated(str(unified), _KILL_PATIENCE):
            raise Unavailable(f"processes in cgroup {unified} do not end: {self.procs()[:10]}")
        for directory in self._unique:
            if directory != unified or not killed:
                processes.kill_and_wait(directory, _KILL_PATIENCE)

    @staticmethod
    def _kill_frozen_v1(directory: str) -> None:
        """Frozen, nothing forks ahead of the signals; but in v1 the signals work only once it is thawed."""
        if not processes.listing(directory):
            return
        try:
            freezer.freeze_v1(directory)
        except (Unavailable, Conflict):
            pass  # one that does not stop does not keep the others from being killed
        try:
            processes.signal_listed(directory, processes.SIGKILL)
        finally:
            try:
                freezer.thaw_v1(directory)
            except Conflict:
                pass  # ended already, and removed by whoever made it

    @staticmethod
    def _kill_v2(directory: str) -> bool:
        try:
            controlfile.write(directory, "cgroup.kill", "1")
        except OSError as error:
            if error.errno in controlfile.GONE:
                return False
            raise
        return True

    def freeze(self) -> None:
        """Stop all processes; returns when they are. Raises Unavailable (thawed again), Unsupported."""
        if self.host.v2_freezer and UNIFIED in self._directories:
            freezer.freeze_v2(self._directories[UNIFIED])
        elif "freezer" in self._directories:
            freezer.freeze_v1(self._directories["freezer"])
        else:
            raise self._no_freezer()

    def thaw(self) -> None:
        """Let them go on. Raises Unavailable where a group above is frozen, too: they go on with that one."""
        if self.host.v2_freezer and UNIFIED in self._directories:
            freezer.thaw_v2(self._directories[UNIFIED])
        elif "freezer" in self._directories:
            freezer.thaw_v1(self._directories["freezer"])
        else:
            raise self._no_freezer()

    def _thaw_if_there(self) -> None:
        try:
            self.thaw()
        except Conflict:
            pass  # what the signal ended was the last: removed by whoever made it

    def frozen(self) -> bool:
        """Whether all processes are stopped, by this or another program. A group that is gone is not."""
        try:
            if self.host.v2_freezer and UNIFIED in self._directories:
                return controlfile.read(self._directories[UNIFIED], "cgroup.freeze").strip() == "1"
            if "freezer" in self._directories:
                return controlfile.read(self._directories["freezer"], "freezer.state").strip() != "THAWED"
        except OSError as error:
            if error.errno not in controlfile.GONE:
                raise
        return False

    def _no_freezer(self) -> SampanError:
        if self.host.v2_freezer or "freezer" in self.host.v1:
            return Conflict(f"cgroup {self.path} is being removed")
        return Unsupported("this host has no cgroup freezer: mount the freezer hierarchy")

    def remove(self) -> None:
        """Remove all directories, sub-cgroups included; processes still inside are killed first. Idempotent.

        Raises Unavailable when a process does not end, OSError with the path.
        """
        left = [directory for directory in self._unique if not cgroupfs.remove(directory)]
        if not left:
            return
        self.kill_all()
        left = [directory for directory in left if not cgroupfs.remove(directory)]
        if left:
            raise Unavailable(f"cannot remove cgroup {left[0]}: it is in use")
