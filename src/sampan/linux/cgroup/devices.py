"""v1's devices controller (Documentation/admin-guide/cgroup-v1/devices.rst), and the devices every container may use.

On v2 an eBPF program does the same: device_program.py.
"""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.linux.cgroup import controlfile, device_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sampan.oci.runtime import DeviceCgroup

    Numbers = tuple[str, int | None, int | None]

ALWAYS_ALLOWED: tuple[tuple[str, int | None, int | None, str], ...] = (
    ("c", None, None, "m"),
    ("b", None, None, "m"),
    ("c", 1, 3, "rwm"),  # null
    ("c", 1, 8, "rwm"),  # random
    ("c", 1, 7, "rwm"),  # full
    ("c", 5, 0, "rwm"),  # tty
    ("c", 1, 5, "rwm"),  # zero
    ("c", 1, 9, "rwm"),  # urandom
    ("c", 136, None, "rwm"),  # pts/*
    ("c", 5, 2, "rwm"),  # ptmx
)
"""What runc allows whatever the spec says (type, major, minor, access): the default devices, and mknod(2) of all."""


def complete(rule: Callable[..., DeviceCgroup], rules: Iterable[DeviceCgroup]) -> list[DeviceCgroup]:
    """The rules of an OCI spec as runc applies them: nothing is allowed at first, the default devices always at last.

    `rule` makes one: `oci.runtime.DeviceCgroup`. A spec without rules gets the default devices alone. Letters beside
    r, w and m, which no kernel knows, say nothing in a rule that has others.
    """
    given = [
        rule(allow=it.allow, type=it.type, major=it.major, minor=it.minor, access=_known(it.access)) for it in rules
    ]
    always = [rule(allow=True, type=kind, major=major, minor=minor, access=access)
              for kind, major, minor, access in ALWAYS_ALLOWED]
    return [rule(allow=False), *given, *always]


def _known(access: str) -> str:
    return "".join(letter for letter in device_program.ACCESS if letter in access) or access


def apply(directory: str, rules: Sequence[DeviceCgroup]) -> None:
    """Make a v1 group follow the rules.

    One list in place of another, both of what is allowed, is written as the difference of both: first what is new,
    then what goes. So a running container loses nothing that it keeps, not for a moment. Raises InvalidArgument,
    Forbidden for what the group above does not allow.
    """
    if any(rule.type in ("a", "") for rule in rules):
        decided = device_program.policy(rules)
        after = {(it.type, it.major, it.minor): it.access for it in decided.exemptions}
        before = _allowed(directory)  # None for a new group: then nobody needs to know the difference
        if before is not None and not decided.allow:
            _write(directory, "devices.allow", {key: bits & ~before.get(key, 0) for key, bits in after.items()})
            _write(directory, "devices.deny", {key: bits & ~after.get(key, 0) for key, bits in before.items()})
            return
        controlfile.write_all(directory, "devices.allow" if decided.allow else "devices.deny", ["a"])
        _write(directory, "devices.deny" if decided.allow else "devices.allow", after)
        return
    start = 0
    while start < len(rules):  # each run of equal kind costs one open
        end = start
        while end < len(rules) and rules[end].allow == rules[start].allow:
            end += 1
        name = "devices.allow" if rules[start].allow else "devices.deny"
        controlfile.write_all(directory, name, [line(rule) for rule in rules[start:end]])
        start = end


def _allowed(directory: str) -> dict[Numbers, int] | None:
    """The group's list, as accesses by device; None when all is allowed but for what the kernel does not show."""
    found: dict[Numbers, int] = {}
    for entry in controlfile.read(directory, "devices.list").splitlines():  # "c 1:3 rwm"
        kind, numbers, access = entry.split()
        if kind == "a":
            return None
        major, _, minor = numbers.partition(":")
        found[kind, _number(major), _number(minor)] = sum(device_program.ACCESS[letter] for letter in access)
    return found


def _number(text: str) -> int | None:
    return None if text == "*" else int(text)


def _write(directory: str, name: str, accesses: dict[Numbers, int]) -> None:
    lines = [
        f"{kind} {'*' if major is None else major}:{'*' if minor is None else minor} "
        + "".join(letter for letter, bit in device_program.ACCESS.items() if bits & bit)
        for (kind, major, minor), bits in accesses.items() if bits
    ]
    if lines:
        controlfile.write_all(directory, name, lines)


def line(rule: DeviceCgroup) -> str:
    """A rule as the devices controller reads it: "c 1:3 rwm", "b *:* m", "a"."""
    if rule.type in ("a", ""):
        return "a"
    if rule.type not in ("b", "c") or not rule.access or set(rule.access) - set("rwm"):
        raise InvalidArgument(f"invalid device cgroup rule: {rule.type} {rule.major}:{rule.minor} {rule.access}")
    major, minor = device_program.number(rule.major), device_program.number(rule.minor)
    return f"{rule.type} {'*' if major is None else major}:{'*' if minor is None else minor} {rule.access}"
