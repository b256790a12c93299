"""`update`: other limits for a container that is there."""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument
from sampan.lean.structs import DecodeError
from sampan.oci import runtime as oci
from sampan.runtime.command import quantity
from sampan.runtime.command.arguments import INT, Command, Flag
from sampan.runtime.lifecycle import documents, updating

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.arguments import Parsed
    from sampan.runtime.command.call import Call


COMMAND = Command(
    "update",
    "change the limits of a container",
    "<container-id>",
    (
        Flag(("resources", "r"), "JSON file with what linux.resources of a config.json holds; - is stdin"),
        Flag(("blkio-weight",), "share of block I/O, 10 to 1000", INT, default="0"),
        Flag(("cpu-period",), "length of a CPU period in µs"),
        Flag(("cpu-quota",), "CPU time in each period in µs"),
        Flag(("cpu-burst",), "unused CPU time that may be saved up, in µs"),
        Flag(("cpu-share",), "share of CPU time against other containers"),
        Flag(("cpu-rt-period",), "length of a real-time CPU period in µs"),
        Flag(("cpu-rt-runtime",), "real-time CPU time in each of its periods in µs"),
        Flag(("cpuset-cpus",), "CPUs to run on: 0-3,7"),
        Flag(("cpuset-mems",), "memory nodes to use: 0-1"),
        Flag(("cpu-idle",), "1: run only when nobody else wants to (SCHED_IDLE), 0: not so"),
        Flag(("memory",), "most memory: bytes, or 64m; -1 is no limit"),
        Flag(("memory-reservation",), "memory to shrink to when the host runs short"),
        Flag(("memory-swap",), "most memory and swap together; -1 is no limit"),
        Flag(("pids-limit",), "most processes and threads; -1 is no limit", INT, default="0"),
        Flag(("kernel-memory",), "(accepted and ignored)", hidden=True),
        Flag(("kernel-memory-tcp",), "(accepted and ignored)", hidden=True),
        Flag(("l3-cache-schema",), "Intel RDT: L3 cache schema"),
        Flag(("mem-bw-schema",), "Intel RDT: memory bandwidth schema"),
    ),
    description="What is not named stays as it is. With --resources all other options are ignored.",
)


def run(call: Call) -> int:
    parsed = call.parsed
    with call.entry() as entry:
        resources = _read(parsed.text("resources")) if parsed.text("resources") else from_flags(parsed)
        updating.check_rdt(parsed.text("l3-cache-schema"), parsed.text("mem-bw-schema"))
        for name in ("kernel-memory", "kernel-memory-tcp"):
            if parsed.text(name):
                call.log.warning(f"Setting --{name} is ignored and will be removed")
        for warning in updating.update(entry, resources):
            call.log.warning(warning)
    return 0


def _read(path: str) -> oci.Resources:
    fd = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    data = documents.read(fd, path)
    try:
        return _unlimited_swap(documents.decode(data, oci.Resources))
    except DecodeError as error:
        raise InvalidArgument(f"the resources: {error}") from error


def from_flags(parsed: Parsed) -> oci.Resources:
    """The resources that the flags name; nothing of what they do not. Raises InvalidArgument in runc's words."""
    numbers = {name: _number(parsed, name) for name in (
        "cpu-period", "cpu-quota", "cpu-burst", "cpu-share", "cpu-rt-period", "cpu-rt-runtime", "cpu-idle",
    )}
    sizes = {name: _size(parsed, name) for name in ("memory", "memory-reservation", "memory-swap")}
    resources = oci.Resources()
    if any(value is not None for value in numbers.values()) or parsed.text("cpuset-cpus") or parsed.text("cpuset-mems"):
        resources.cpu = oci.CPU(
            shares=numbers["cpu-share"], quota=numbers["cpu-quota"], burst=numbers["cpu-burst"],
            period=numbers["cpu-period"], realtime_runtime=numbers["cpu-rt-runtime"],
            realtime_period=numbers["cpu-rt-period"], idle=numbers["cpu-idle"],
            cpus=parsed.text("cpuset-cpus"), mems=parsed.text("cpuset-mems"),
        )
    if any(value is not None for value in sizes.values()):
        resources.memory = oci.Memory(
            limit=sizes["memory"], reservation=sizes["memory-reservation"], swap=sizes["memory-swap"]
        )
    if weight := parsed.number("blkio-weight"):
        resources.block_io = oci.BlockIO(weight=weight)
    if limit := parsed.number("pids-limit"):
        resources.pids = oci.Pids(limit=limit)
    return _unlimited_swap(resources)


def _unlimited_swap(resources: oci.Resources) -> oci.Resources:
    """Memory without a limit takes swap along: v1 refuses the one without the other."""
    memory = resources.memory
    if memory is not None and memory.limit == -1 and memory.swap is None:
        memory.swap = -1
    return resources


def _number(parsed: Parsed, name: str) -> int | None:
    text = parsed.text(name)
    if not text:
        return None
    signed = name in ("cpu-quota", "cpu-rt-runtime", "cpu-idle")
    return quantity.integer(text, f"invalid value for {name}", signed)


def _size(parsed: Parsed, name: str) -> int | None:
    text = parsed.text(name)
    if not text:
        return None
    return -1 if text == "-1" else quantity.size(text, f"invalid value for {name}")
