"""Which kernel settings a container may change: those of its own namespaces (config-linux.md, "Sysctl")."""

from __future__ import annotations

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from sampan.oci import runtime as oci

_OF_IPC = frozenset({
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
    "kernel.shm_rmid_forced",
})
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.@:*")


def to_path(key: str) -> str:
    """The path below /proc/sys of a setting, as sysctl(8) reads its name: the separator is what comes first of "." and
    "/", the other one stands for itself turned round ("net.ipv4.conf.eth0/1.forwarding" is of device eth0.1).

    Raises InvalidArgument for a name that could lead elsewhere, or holds what no name does (CVE-2022-0811: "+" and "/"
    smuggled a second setting past a check that saw one).
    """
    first = next((letter for letter in key if letter in "./"), "")
    path = key.translate({ord("."): "/", ord("/"): "."}) if first == "." else key
    if not first or any(part[:1] in ("", ".") or not _LETTERS.issuperset(part) for part in path.split("/")):
        raise InvalidArgument(f"{key[:120]!r} is not the name of a sysctl")
    return path


def check(settings: Mapping[str, str], linux: oci.Linux, shared: AbstractSet[str] = frozenset()) -> None:
    """Raises InvalidArgument for a setting that is not of a namespace that the container has to itself, or with another
    container. `shared`: the kinds that are joined and yet the runtime's own (namespaces.ours).
    """
    if not settings:
        return
    own = {namespace.type for namespace in linux.namespaces} - shared
    for key, value in settings.items():
        if "\n" in value or "\0" in value:
            raise InvalidArgument(f"sysctl {key!r}: the value has more than one line")
        _check(key, to_path(key).replace(".", "\0").replace("/", ".").replace("\0", "/"), own)


def _check(key: str, name: str, own: set[str]) -> None:
    if name in _OF_IPC or name.startswith("fs.mqueue."):
        if "ipc" not in own:
            raise InvalidArgument(f"sysctl {key!r} is not allowed in the hosts ipc namespace")
    elif name.startswith("net."):
        if "network" not in own:
            raise InvalidArgument(f"sysctl {key!r} not allowed in host network namespace")
    elif name == "kernel.hostname" and "uts" in own:
        raise InvalidArgument(f"sysctl {key!r} is not allowed as it conflicts with the OCI 'hostname' field")
    elif not (name == "kernel.domainname" and "uts" in own):
        raise InvalidArgument(f"sysctl {key!r} is not in a separate kernel namespace")
