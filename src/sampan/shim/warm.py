"""What the launcher does once so that no start has to: fill every cache that a start would fill in its own fork.

msgspec builds a type's decoder at its first use (2.7 ms for a start request), `re` compiles, the interpreter
specialises bytecode: all of it is lost with the fork that did it, and kept by a launcher that did it before.
"""

from __future__ import annotations

import msgspec

from sampan.linux.cgroup import Host
from sampan.oci import runtime as oci
from sampan.runtime import identity, plan
from sampan.runtime.kernel import JoinCgroup
from sampan.runtime.newborn import Work
from sampan.runtime.operation import Recorder, Report
from sampan.runtime.rootfs import Overlay, operation
from sampan.shim.log import now
from sampan.shim.messages import ClientOptions, ExecRequest, Exit, Log, Setup, Started


def warm(rounds: int) -> None:
    """Run the pure parts of a start and an exec on a sample. Touches nothing outside this process."""
    for _ in range(rounds):
        work = msgspec.json.decode(msgspec.json.encode(_work()), type=Work)
        todo = plan.make(
            work.spec, operation(work.rootfs, "/r"), JoinCgroup("a/b", (3,)), work.host, {"network": 3}
        )
        recorder = Recorder()
        for each in todo.inside:
            recorder.done(type(each).__name__, each.describe())
        msgspec.json.encode(Report({"cpu": "/c"}, [], recorder.steps))
        assert work.spec.process is not None
        identity.final_sets(work.spec.process.capabilities)
        identity.last_cap()
        client = ClientOptions(True, True, True, False)
        setup = Setup("i", "/d", work.host, "a/b", True, False, Log("/l"), clients=[client])
        msgspec.convert(msgspec.to_builtins(setup), Setup)
        msgspec.convert(msgspec.to_builtins(Started(1, now(), 1, "", [])), Started)
        msgspec.json.encode(Exit(0, now()))
        msgspec.convert(msgspec.to_builtins(ExecRequest("e", work.spec.process)), ExecRequest)


def _work() -> Work:
    kinds = ("pid", "mount", "uts", "ipc", "cgroup", "network")
    resources = oci.Resources(
        memory=oci.Memory(limit=1 << 30), cpu=oci.CPU(quota=1), pids=oci.Pids(limit=1),
        devices=[oci.DeviceCgroup(allow=False)],
    )
    linux = oci.Linux(
        namespaces=[oci.Namespace(type=kind) for kind in kinds], cgroups_path="a/b", resources=resources,
        masked_paths=["/proc/kcore"], readonly_paths=["/proc/sys"], sysctl={"net.ipv4.ip_forward": "1"},
    )
    names = ["CAP_KILL", "CAP_CHOWN"]
    process = oci.Process(
        args=["true"], env=["PATH=/bin"],
        capabilities=oci.Capabilities(bounding=names, effective=names, permitted=names),
        rlimits=[oci.Rlimit(type="RLIMIT_NOFILE", hard=1, soft=1)],
    )
    mounts = [
        oci.Mount(destination="/proc", type="proc", source="proc", options=["nosuid", "noexec", "nodev"]),
        oci.Mount(destination="/dev", type="tmpfs", source="tmpfs", options=["mode=755", "size=65536k"]),
        oci.Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=["ro", "nosuid"]),
        oci.Mount(destination="/etc/hosts", type="bind", source="/etc/hosts", options=["rbind", "rprivate"]),
    ]
    spec = oci.Spec(process=process, root=oci.Root(path="/"), hostname="boat", mounts=mounts, linux=linux)
    return Work(spec, Overlay(["/l"], "/u", "/w"), "/r", Host("v1", {"cpu": "/c", "memory": "/m"}))
