"""OCI resources and annotations → properties of a systemd unit: systemd.resource-control(5).

A property is (name, (D-Bus signature, value)), as StartTransientUnit and SetUnitProperties take them. systemd is told
whatever it has a word for, because it writes what it believes anew at each `systemctl daemon-reload`; all the rest it
leaves alone in a delegated group.
"""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.linux import number_list
from sampan.linux.cgroup import device_program
from sampan.linux.cgroup.limits_v2 import weight_of_blkio, weight_of_shares

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sampan.oci.runtime import CPU, DeviceCgroup, Memory, Resources

    Property = tuple[str, tuple[str, object]]

INFINITY = (1 << 64) - 1
ANNOTATION = "org.systemd.property."

_OURS = frozenset(("Slice", "PIDs", "Delegate", "DelegateControllers", "DevicePolicy", "DeviceAllow", "User", "Group"))
_OF_OTHERS = frozenset((  # systemd.unit(5)
    "Requires", "Requisite", "Wants", "BindsTo", "PartOf", "Upholds", "Conflicts", "OnFailure", "OnSuccess",
    "PropagatesReloadTo", "PropagatesStopTo", "StopPropagatedFrom", "ReloadPropagatedFrom", "FailureAction",
    "SuccessAction", "StartLimitAction", "JobTimeoutAction",
))
_CPUS = 8192
_DEFAULT_PERIOD = 100_000
_CENT = 10_000  # µs of cpu time a second: systemd keeps quotas in whole percents
_KIND = {"b": "block", "c": "char"}
_INTEGERS = {
    "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t", "handle": "h",
}
_RANGES = {
    "y": (0, 255), "n": (-1 << 15, (1 << 15) - 1), "q": (0, (1 << 16) - 1), "i": (-1 << 31, (1 << 31) - 1),
    "u": (0, (1 << 32) - 1), "x": (-1 << 63, (1 << 63) - 1), "t": (0, INFINITY), "h": (0, 0),
}
_MAX_UNIFIED = {"memory.min": "MemoryMin", "memory.low": "MemoryLow", "memory.high": "MemoryHigh",
                "memory.max": "MemoryMax", "memory.swap.max": "MemorySwapMax", "pids.max": "TasksMax"}


def of_resources(resources: Resources, v2: bool, version: int) -> list[Property]:
    """What systemd of that version knows of `resources`; `v2`: the host has cgroup v2 only. Raises InvalidArgument."""
    found: list[Property] = []
    if resources.memory is not None:
        found += _memory_v2(resources.memory) if v2 else _memory_v1(resources.memory)
    if resources.cpu is not None:
        found += _cpu(resources.cpu, v2, version)
        found += _cpuset(resources.cpu.cpus, resources.cpu.mems, version)
    if resources.pids is not None and resources.pids.limit != 0:
        found.append(("TasksMax", ("t", _bytes(resources.pids.limit))))
    if resources.block_io is not None and resources.block_io.weight:
        weight = resources.block_io.weight
        found.append(("IOWeight", ("t", weight_of_blkio(weight))) if v2 else ("BlockIOWeight", ("t", weight)))
    if v2:
        found += _unified(resources.unified, version)
    for name, (signature, value) in found:
        if signature == "t" and not (isinstance(value, int) and 0 <= value <= INFINITY):
            raise InvalidArgument(f"{name} of a systemd unit is out of range: {value}")
    if resources.devices:
        found += of_devices(resources.devices, v2)
    return found


def _bytes(value: int) -> int:
    return INFINITY if value < 0 else value


def _memory_v1(memory: Memory) -> list[Property]:
    return [("MemoryLimit", ("t", _bytes(memory.limit)))] if memory.limit else []


def _memory_v2(memory: Memory) -> list[Property]:
    found: list[Property] = []
    swap = -1 if memory.limit == -1 and not memory.swap else memory.swap or 0
    if memory.limit:
        found.append(("MemoryMax", ("t", _bytes(memory.limit))))
    if memory.reservation:
        found.append(("MemoryLow", ("t", _bytes(memory.reservation))))
    if swap < 0 or (swap and memory.limit):
        found.append(("MemorySwapMax", ("t", INFINITY if swap < 0 else max(0, swap - (memory.limit or 0)))))
    return found


def _cpu(cpu: CPU, v2: bool, version: int) -> list[Property]:
    found: list[Property] = []
    if cpu.idle and v2:
        found += _idle(version)
    elif cpu.shares:
        found.append(("CPUWeight", ("t", weight_of_shares(cpu.shares))) if v2 else ("CPUShares", ("t", cpu.shares)))
    return found + _quota(cpu.quota or 0, cpu.period or 0, version)


def _idle(version: int) -> list[Property]:
    return [("CPUWeight", ("t", 0))] if version >= 252 else []


def _quota(quota: int, period: int, version: int) -> list[Property]:
    """Rounded up to a percent of a cpu, as systemd keeps it: the file then gets the value itself."""
    found: list[Property] = []
    if period and version >= 242:
        found.append(("CPUQuotaPeriodUSec", ("t", period)))
    if quota > 0:
        a_second = quota * 1_000_000 // (period or _DEFAULT_PERIOD)
        found.append(("CPUQuotaPerSecUSec", ("t", -(-a_second // _CENT) * _CENT)))
    elif quota < 0 or period:
        found.append(("CPUQuotaPerSecUSec", ("t", INFINITY)))
    return found


def _cpuset(cpus: str, mems: str, version: int) -> list[Property]:
    if version < 244:
        return []
    return [
        (name, ("ay", bit_mask(numbers))) for name, numbers in (("AllowedCPUs", cpus), ("AllowedMemoryNodes", mems))
        if numbers
    ]


def bit_mask(numbers: str) -> bytes:
    """A list as cpuset has it ("0-3,8") as bytes, bit 0 of byte 0 first. Raises InvalidArgument."""
    mask = sum(1 << number for number in number_list.parse(numbers, _CPUS, "list of cpus or memory nodes"))
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def _unified(unified: Mapping[str, str], version: int) -> list[Property]:
    """The settings by v2's own names that systemd would undo."""
    found: list[Property] = []
    for name, value in unified.items():
        text = value.strip()
        if name in _MAX_UNIFIED and (text == "max" or text.isdigit()):
            found.append((_MAX_UNIFIED[name], ("t", INFINITY if text == "max" else int(text))))
        elif name == "cpu.weight" and text.isdigit():
            found.append(("CPUWeight", ("t", int(text))))
        elif name == "io.weight" and (weight := text.removeprefix("default").strip()).isdigit():
            found.append(("IOWeight", ("t", int(weight))))
        elif name == "cpu.idle" and text == "1":
            found += _idle(version)
        elif name == "cpu.max":
            quota, _, period = text.partition(" ")
            if (quota == "max" or quota.isdigit()) and (not period or period.isdigit()):
                found += _quota(-1 if quota == "max" else int(quota), int(period or _DEFAULT_PERIOD), version)
        elif name == "cpuset.cpus":
            found += _cpuset(text, "", version)
        elif name == "cpuset.mems":
            found += _cpuset("", text, version)
    return found


def of_devices(rules: Sequence[DeviceCgroup], v2: bool) -> list[Property]:
    """DevicePolicy and DeviceAllow. systemd only knows lists of what is allowed, by number or by whole majors.

    A policy it has no words for is left to our own program on v2 (its and ours must both agree); on v1, where it would
    open all devices at the next reload, it gets what of it can be said.
    """
    decided = device_program.policy(rules)
    allowed: list[tuple[str, str]] = []
    complete = not decided.allow
    for exemption in decided.exemptions if complete else ():
        kind = _KIND[exemption.type]
        letters = "".join(letter for letter, bit in (("r", 2), ("w", 4), ("m", 1)) if exemption.access & bit)
        if exemption.major is None and exemption.minor is None:
            allowed.append((f"{kind}-*", letters))
        elif exemption.major is None:
            complete = False
        elif exemption.minor is None:
            allowed.append((f"{kind}-{exemption.major}", letters))
        else:
            allowed.append((f"/dev/{kind}/{exemption.major}:{exemption.minor}", letters))
    everything = decided.allow and not decided.exemptions
    if everything or (v2 and not complete):
        return [("DevicePolicy", ("s", "auto")), ("DeviceAllow", ("a(ss)", []))]
    found: list[Property] = [("DevicePolicy", ("s", "strict")), ("DeviceAllow", ("a(ss)", []))]
    return [*found, ("DeviceAllow", ("a(ss)", allowed))] if allowed else found


def of_annotations(annotations: Mapping[str, str]) -> list[Property]:
    """org.systemd.property.NAME annotations, their values in GVariant's text form: "'inactive-or-failed'", "uint64 5".

    A name that ends in Sec (seconds) becomes the one in microseconds that D-Bus has. Raises InvalidArgument, also for
    what annotations may not say: they are often written by whoever writes the image or the pod.
    """
    found: list[Property] = []
    for key, text in annotations.items():
        if not key.startswith(ANNOTATION):
            continue
        name = key.removeprefix(ANNOTATION)
        if not (name.isascii() and name.isalpha() and name[0].isupper()):
            raise InvalidArgument(f"invalid annotation {key}: not the name of a systemd property")
        if name in _OURS:
            raise InvalidArgument(f"invalid annotation {key}: its place and its rights are not its to say")
        if name in _OF_OTHERS:
            raise InvalidArgument(f"invalid annotation {key}: it would start or stop other units of the host")
        try:
            text.encode()
            signature, value = _variant(text.strip())
            if name.endswith("Sec") and not name.endswith("USec"):
                name, signature, value = f"{name[:-3]}USec", "t", _microseconds(value)
        except ValueError as error:
            raise InvalidArgument(f"invalid annotation {key}={text}: {error}") from error
        found.append((name, (signature, value)))
    return found


def _in_range(signature: str, value: int) -> tuple[str, object]:
    low, high = _RANGES[signature]
    if not low <= value <= high:
        raise ValueError(f"out of range: {value}")
    return signature, value


def _microseconds(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise ValueError("seconds must be a number")
    return int(value * 1_000_000)


def _variant(text: str) -> tuple[str, object]:
    """Booleans, numbers with or without their type, strings, lists of strings: what properties of units consist of."""
    if text in ("true", "false"):
        return "b", text == "true"
    kind, _, number = text.partition(" ")
    if kind in _INTEGERS:
        return _in_range(_INTEGERS[kind], int(number))
    if text.startswith("[") and text.endswith("]"):
        return "as", [_string(part.strip()) for part in text[1:-1].split(",")]
    if text[:1] in ("'", '"'):
        return "s", _string(text)
    if "." in text:
        return "d", float(text)
    return _in_range("i", int(text))


def _string(text: str) -> str:
    if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0] or text[0] in text[1:-1] or "\\" in text:
        raise ValueError(f"not a string in quotes: {text}")
    return text[1:-1]
