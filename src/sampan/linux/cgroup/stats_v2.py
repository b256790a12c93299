"""The accounting files of a v2 group (Documentation/admin-guide/cgroup-v2.rst)."""

from __future__ import annotations

from sampan.linux.cgroup import controlfile
from sampan.linux.cgroup.controlfile import number, text
from sampan.linux.cgroup.figures import Block, BlockEntry, Counter, Cpu, Memory, Pressure

_IO = (
    ("rbytes", "read", "service_bytes"), ("wbytes", "write", "service_bytes"), ("dbytes", "discard", "service_bytes"),
    ("rios", "read", "serviced"), ("wios", "write", "serviced"), ("dios", "discard", "serviced"),
)


def cpu(directory: str) -> Cpu:
    values = controlfile.parse_flat(text(directory, "cpu.stat"))
    return Cpu(
        usage_ns=values.get("usage_usec", 0) * 1000,
        user_ns=values.get("user_usec", 0) * 1000,
        system_ns=values.get("system_usec", 0) * 1000,
        periods=values.get("nr_periods", 0),
        throttled_periods=values.get("nr_throttled", 0),
        throttled_ns=values.get("throttled_usec", 0) * 1000,
        bursts=values.get("nr_bursts", 0),
        burst_ns=values.get("burst_usec", 0) * 1000,
        pressure=pressure(directory, "cpu.pressure"),
    )


def memory(directory: str) -> Memory:
    stat = controlfile.parse_flat(text(directory, "memory.stat"))
    events = controlfile.parse_flat(text(directory, "memory.events"))
    return Memory(
        usage=number(directory, "memory.current") or 0,
        max_usage=number(directory, "memory.peak") or 0,
        limit=number(directory, "memory.max"),
        swap_usage=number(directory, "memory.swap.current") or 0,
        swap_limit=number(directory, "memory.swap.max"),
        cache=stat.get("file", 0),
        inactive_file=stat.get("inactive_file", 0),
        failures=events.get("max", 0),
        oom_kills=events.get("oom_kill", 0),
        stat=stat,
        pressure=pressure(directory, "memory.pressure"),
    )


def block(directory: str) -> Block:
    found = Block(pressure=pressure(directory, "io.pressure"))
    for line in text(directory, "io.stat").splitlines():  # "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6"
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        for key, operation, kind in _IO:
            if values.get(key, "").isdigit() and major.isdigit() and minor.isdigit():
                entries = found.service_bytes if kind == "service_bytes" else found.serviced
                entries.append(BlockEntry(int(major), int(minor), operation, int(values[key])))
    return found


def hugetlb(directory: str, name: str) -> Counter:
    """Huge pages of one size: NAME.current and its kin. Their highest number is not counted."""
    events = controlfile.parse_flat(text(directory, f"{name}.events"))
    return Counter(number(directory, f"{name}.current") or 0, 0, number(directory, f"{name}.max"), events.get("max", 0))


def pressure(directory: str, name: str) -> Pressure | None:
    """Lines "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"; None where the kernel does not measure it."""
    lines = text(directory, name).splitlines()
    if not lines:
        return None
    found = Pressure()
    for line in lines:
        kind, *pairs = line.split()
        words = [pair.partition("=") for pair in pairs]
        values = {key: int(value) if value.isdigit() else float(value) for key, _, value in words}
        if kind == "some":
            found.some = values
        elif kind == "full":
            found.full = values
    return found
