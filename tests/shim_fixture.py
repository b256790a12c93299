"""A container without an engine: launcher, shim and a busybox root, for tests of runtime/ and shim/."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from sampan.jobs.client import ForkServer
from sampan.linux.cgroup import detect, prune
from sampan.oci import runtime as oci
from sampan.shim.client import ShimClient
from sampan.shim.messages import AttachedClient, ClientOptions, ExecRequest, Log, Overlay, StartRequest

CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
]
_QUIET = ["nosuid", "noexec", "nodev"]


def make_process(args: list[str], **members: Any) -> oci.Process:
    everything = oci.Capabilities(bounding=CAPABILITIES, effective=CAPABILITIES, permitted=CAPABILITIES)
    return oci.Process(**{"args": args, "env": ["PATH=/bin"], "capabilities": everything, **members})


def make_spec(process: oci.Process, cgroup: str, **linux: Any) -> oci.Spec:
    """A spec as the engine's: the usual mounts, namespaces, masks."""
    mounts = [
        oci.Mount(destination="/proc", type="proc", source="proc", options=_QUIET),
        oci.Mount(destination="/dev", type="tmpfs", source="tmpfs", options=["nosuid", "mode=755", "size=64m"]),
        oci.Mount(destination="/dev/pts", type="devpts", source="devpts",
                  options=["nosuid", "noexec", "ptmxmode=0666", "mode=0620", "gid=5"]),
        oci.Mount(destination="/sys", type="sysfs", source="sysfs", options=[*_QUIET, "ro"]),
        oci.Mount(destination="/dev/shm", type="tmpfs", source="shm", options=[*_QUIET, "mode=1777", "size=64m"]),
    ]
    members: dict[str, Any] = {
        "namespaces": [oci.Namespace(type=kind) for kind in ("pid", "mount", "uts", "ipc", "cgroup", "network")],
        "cgroups_path": cgroup,
        "masked_paths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonly_paths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        **linux,
    }
    return oci.Spec(process=process, hostname="boat", mounts=mounts, linux=oci.Linux(**members))


def make_root(path: Path) -> None:
    """A root with busybox and nothing else."""
    (path / "bin").mkdir(parents=True)
    (path / "etc").mkdir()
    (path / "tmp").mkdir(mode=0o1777)
    shutil.copy("/bin/busybox", path / "bin/busybox")
    for name in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name != "busybox":
            (path / "bin" / name).symlink_to("busybox")
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1000::/home/sailor:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\ncrew:x:20:sailor\nsailor:x:1000:\n")


@dataclass
class Box:
    """One container's directories and what was heard from its shim."""

    directory: Path
    launcher: ForkServer
    cgroup: str
    events: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    shim: ShimClient | None = None

    @property
    def root(self) -> Path:
        return self.directory / "root"

    async def start(
        self, args: list[str], client: AttachedClient | None = None,
        change: Callable[[oci.Spec], None] | None = None, process: dict[str, Any] | None = None, **request: Any,
    ) -> ShimClient:
        spec = make_spec(make_process(args, **process or {}), self.cgroup)
        if change is not None:
            change(spec)
        start = StartRequest(
            id="box", directory=str(self.directory / "run"), spec=spec,
            rootfs=Overlay([str(self.root)], str(self.directory / "upper"), str(self.directory / "work")),
            cgroup_host=msgspec.to_builtins(detect().without_v2()),
            **{"log": Log(str(self.directory / "log.json")), **request},
        )
        clients = [client] if client else []
        self.shim = await ShimClient.launch(self.launcher, start, None, clients, self.events.put_nowait)
        return self.shim

    async def run(self, args: list[str], **how: Any) -> tuple[int, str]:
        """Run to the end: (status, what it printed on both streams)."""
        near, client = attached()
        with near:
            await self.start(args, client, **how)
            end = await self.exited()
            return end["status"], (await read_all(near)).decode(errors="replace")

    async def exec(self, args: list[str], **process: Any) -> tuple[int, str]:
        near, client = attached()
        with near:
            assert self.shim is not None
            await self.shim.exec(ExecRequest("e", make_process(args, **process)), client)
            event = await asyncio.wait_for(self.events.get(), 20)
            assert event["event"] == "exec_exited"
            return event["status"], (await read_all(near)).decode(errors="replace")

    async def exited(self) -> dict[str, Any]:
        """The exit event; returns once the shim itself is gone too."""
        end: dict[str, Any] = {}
        while True:
            event = await asyncio.wait_for(self.events.get(), 30)
            if event["event"] == "exited":
                end = event
            if event["event"] == "gone":
                return end


def attached(stdin: bool = False) -> tuple[socket.socket, AttachedClient]:
    """(our end, the client to hand over). tty=True: the stream comes raw, without frames."""
    near, far = socket.socketpair()
    near.setblocking(False)
    return near, AttachedClient(far, ClientOptions(stdin, True, True, True))


async def read_all(sock: socket.socket) -> bytes:
    out = b""
    while data := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 65536), 20):
        out += data
    return out


async def read_until(sock: socket.socket, mark: bytes) -> bytes:
    out = b""
    while mark not in out:
        data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 65536), 20)
        assert data, f"the stream ended before {mark!r}: {out!r}"
        out += data
    return out


@asynccontextmanager
async def box() -> AsyncIterator[Box]:
    directory = Path(tempfile.mkdtemp(prefix="sampan-shim-"))
    for name in ("upper", "work"):
        (directory / name).mkdir()
    make_root(directory / "root")
    parent = f"sampan-test-{directory.name}"
    launcher = ForkServer("sampan.shim.launcher")
    made = Box(directory, launcher, f"{parent}/box")
    try:
        yield made
    finally:
        if made.shim is not None and not made.shim.closed:
            made.shim.signal(signal.SIGKILL)
            await made.exited()
        launcher.close()
        shutil.rmtree(directory)
        prune(detect().without_v2(), parent)
