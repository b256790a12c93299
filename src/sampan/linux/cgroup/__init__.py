"""cgroups(7): groups of processes with limits and accounting, in v1, v2 and hybrid hierarchies.

    host.py       where the hierarchies are mounted: found once, sent along as plain data
    cgroupfs.py   the driver that makes and removes directories itself (another driver is another module like it)
    group.py      Group: one container's directories in all hierarchies; join, kill, freeze, remove
    limits_v1.py, limits_v2.py                       OCI resources → control files
    devices.py, device_program.py                    device rules → v1's lists, v2's eBPF program
    requirements.py                                  which files limits need: for those who refuse instead of warning
    systemd.py, systemd_manager.py, unit_properties.py    the systemd driver, only loaded when asked for
    delegation.py                                    groups of those who are not root
    stats.py, stats_v1.py, stats_v2.py, figures.py   accounting, from the paths alone
    oom.py        to be woken when memory runs out
    features.py   what this kernel's controllers can do

A group has one directory in each v1 hierarchy that matters, and one in the v2 hierarchy when there is one: on hybrid
hosts that one holds no limits, but brings what only v2 has: being born in the group (CLONE_INTO_CGROUP), cgroup.kill,
a freezer that can be waited for, and an event when the last process is gone.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.linux.cgroup.cgroupfs import prune
    from sampan.linux.cgroup.group import Group
    from sampan.linux.cgroup.host import Host, detect, hierarchies
    from sampan.linux.cgroup.membership import join

__all__ = ["Group", "Host", "detect", "hierarchies", "join", "prune"]

_PLACES = {
    "Group": "group", "Host": "host", "detect": "host", "hierarchies": "host", "join": "membership", "prune": "cgroupfs"
}


def __getattr__(name: str) -> object:
    """Only what is asked for is imported: a program that lives 30 ms needs the host long before the limits."""
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(__import__(f"{__name__}.{place}", fromlist=(name,)), name)
