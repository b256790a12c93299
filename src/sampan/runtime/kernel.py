"""Operations on namespaces and what they hold: joining, host name, loopback, sysctls, cgroups."""

from __future__ import annotations

import _socket as socket
import fcntl
import os
import struct

from sampan.errors import InvalidArgument
from sampan.lean.record import dataclass
from sampan.linux import clone, process, procfs
from sampan.linux.cgroup import membership
from sampan.runtime import sysctl
from sampan.runtime.operation import Stage


@dataclass(frozen=True)
class JoinNamespace:
    """Enter an existing namespace by its descriptor, or by a pidfd of a process in it."""

    kind: str
    fd: int

    def describe(self) -> str:
        return f"join the {self.kind} namespace"

    def apply(self, stage: Stage) -> None:
        clone.setns(self.fd, clone.NAMESPACES[self.kind][0])


@dataclass(frozen=True)
class JoinCgroup:
    """Put ourselves into the group of every v1 hierarchy: moving oneself needs no lock of the whole system."""

    path: str
    fds: tuple[int, ...]

    def describe(self) -> str:
        return f"join cgroup {self.path}"

    def apply(self, stage: Stage) -> None:
        membership.join(self.fds)


@dataclass(frozen=True)
class NewCgroupNamespace:
    """After joining: the namespace's top is the group we are in at this moment (cgroup_namespaces(7))."""

    def describe(self) -> str:
        return "new cgroup namespace"

    def apply(self, stage: Stage) -> None:
        clone.unshare(clone.NEWCGROUP)


@dataclass(frozen=True)
class NewIpcNamespace:
    def describe(self) -> str:
        return "new ipc namespace"

    def apply(self, stage: Stage) -> None:
        clone.unshare(clone.NEWIPC)


@dataclass(frozen=True)
class NewNetworkNamespace:
    def describe(self) -> str:
        return "new network namespace, with nothing but lo"

    def apply(self, stage: Stage) -> None:
        clone.unshare(clone.NEWNET)


@dataclass(frozen=True)
class SetHostname:
    hostname: str
    domainname: str = ""

    def describe(self) -> str:
        return f"set the host name {self.hostname}"

    def apply(self, stage: Stage) -> None:
        if self.hostname:
            process.sethostname(self.hostname)
        if self.domainname:
            process.setdomainname(self.domainname)


@dataclass(frozen=True)
class SetOomScore:
    """How readily the kernel's OOM killer takes this process (proc(5)). Done while the host's /proc is still there."""

    score: int

    def describe(self) -> str:
        return f"set oom_score_adj to {self.score}"

    def apply(self, stage: Stage) -> None:
        proc = procfs.open_root()
        try:
            procfs.write_own(proc, "oom_score_adj", str(self.score).encode())
        except PermissionError:
            stage.warnings.append(
                f"oom_score_adj {self.score} was not set: lowering it needs CAP_SYS_RESOURCE, which this host does not "
                "give the engine"
            )
        finally:
            os.close(proc)


@dataclass(frozen=True)
class LoopbackUp:
    """A fresh network namespace has `lo`, down."""

    def describe(self) -> str:
        return "bring lo up"

    def apply(self, stage: Stage) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            fcntl.ioctl(sock.fileno(), 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up, running
        finally:
            sock.close()


@dataclass(frozen=True)
class SetSysctl:
    """Write below /proc/sys on the procfs that we mounted ourselves, by its descriptor (CVE-2025-52881, 2022-0811).

    Where the container has no /proc it goes through one that is mounted nowhere. Which settings a container may change
    was decided before (sysctl.check).
    """

    key: str
    value: str

    def describe(self) -> str:
        return f"set sysctl {self.key}={self.value}"

    def apply(self, stage: Stage) -> None:
        try:
            path = sysctl.to_path(self.key)
        except InvalidArgument as error:
            raise OSError(22, "not the name of a sysctl", self.key) from error
        proc = stage.proc if stage.proc >= 0 else procfs.private(whole=True)
        try:
            fd = procfs.open_below(proc, f"sys/{path}", os.O_WRONLY)
            try:
                os.write(fd, self.value.encode())
            finally:
                os.close(fd)
        finally:
            if proc != stage.proc:
                os.close(proc)
