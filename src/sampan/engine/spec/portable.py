"""The engine's spec for another OCI runtime: what our own does by itself is put into plain OCI words."""

from __future__ import annotations

import shutil

from sampan.engine.spec import Made
from sampan.errors import Unsupported
from sampan.linux.cgroup.features import Features
from sampan.oci.runtime import CPU, Mount, Resources, Spec

_INIT = "/sbin/docker-init"
_INITS = ("docker-init", "tini-static", "catatonit", "tini")


def adapt(made: Made, features: Features, with_init: bool) -> Spec:
    """The spec, changed in place. Raises Unsupported for `--init` on a host without any."""
    spec = made.spec
    linux = spec.linux
    assert linux is not None
    linux.seccomp = made.policy
    if spec.domainname:  # younger than many a runtime: dockerd does it so, too
        linux.sysctl = {**linux.sysctl, "kernel.domainname": spec.domainname}
        spec.domainname = ""
    spec.mounts = [_sysfs_in_user_namespace(spec, mount) for mount in spec.mounts]
    if linux.resources is not None:
        _leave_out(linux.resources, features)
    if with_init:
        _put_init(spec)
    return spec


def _sysfs_in_user_namespace(spec: Spec, mount: Mount) -> Mount:
    """A sysfs shows a network namespace, and mounting it needs power over that one. Ours comes ready, so a user
    namespace of the container's own has none over it: the host's is bound, as podman does.
    """
    kinds = {namespace.type for namespace in (spec.linux.namespaces if spec.linux else [])}
    if mount.type != "sysfs" or "user" not in kinds:
        return mount
    return Mount(
        destination=mount.destination, type="bind", source="/sys",
        options=["rbind", "rprivate", "nosuid", "noexec", "nodev", "ro"],
    )


def _put_init(spec: Spec) -> None:
    """Process 1 that reaps: others cannot run ours, so a program of the host's is bound in, as dockerd does."""
    assert spec.process is not None
    program = next(filter(None, map(shutil.which, _INITS)), None)
    if program is None:
        raise Unsupported(
            f"--init with this runtime needs one of {', '.join(_INITS)} on PATH; the runtime sampan needs none"
        )
    spec.mounts = [*spec.mounts, Mount(destination=_INIT, type="bind", source=program, options=["bind", "ro"])]
    spec.process.args = [_INIT, "--", *spec.process.args]


def _leave_out(limits: Resources, features: Features) -> None:
    """What this host cannot hold was warned of at creation; other runtimes would fail for it."""
    memory, cpu, block = limits.memory, limits.cpu, limits.block_io
    if memory is not None:
        memory.limit = memory.limit if features.memory_limit else None
        memory.reservation = memory.reservation if features.memory_reservation else None
        memory.swap = memory.swap if features.swap_limit else None
        memory.swappiness = memory.swappiness if features.swappiness else None
        memory.disable_oom_killer = memory.disable_oom_killer if features.oom_kill_disable else None
    if cpu is not None:
        limits.cpu = CPU(
            shares=cpu.shares if features.cpu_shares else None,
            quota=cpu.quota if features.cpu_cfs else None, period=cpu.period if features.cpu_cfs else None,
            realtime_runtime=cpu.realtime_runtime, realtime_period=cpu.realtime_period,
            cpus=cpu.cpus if features.cpuset else "", mems=cpu.mems if features.cpuset else "",
        )
    if not features.pids_limit:
        limits.pids = None
    if block is not None:
        block.weight = block.weight if features.blkio_weight else None
        block.weight_device = block.weight_device if features.blkio_weight_device else []
        if not features.blkio_throttle:
            block.throttle_read_bps_device, block.throttle_write_bps_device = [], []
            block.throttle_read_iops_device, block.throttle_write_iops_device = [], []
