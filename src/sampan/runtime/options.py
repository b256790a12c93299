"""Mount options as fstab(5), Docker and the OCI runtime spec write them → attributes, propagation, data."""

from __future__ import annotations

from sampan.lean.record import dataclass, field
from sampan.linux import mount

# name → (attributes to set, attributes to clear); an "r" in front makes it recursive (config.md, "Linux mount options")
_ATTRIBUTES = {
    "ro": (mount.ATTR_RDONLY, 0),
    "rw": (0, mount.ATTR_RDONLY),
    "nosuid": (mount.ATTR_NOSUID, 0),
    "suid": (0, mount.ATTR_NOSUID),
    "nodev": (mount.ATTR_NODEV, 0),
    "dev": (0, mount.ATTR_NODEV),
    "noexec": (mount.ATTR_NOEXEC, 0),
    "exec": (0, mount.ATTR_NOEXEC),
    "noatime": (mount.ATTR_NOATIME, mount.ATTR_ATIME),
    "atime": (0, mount.ATTR_ATIME),
    "strictatime": (mount.ATTR_STRICTATIME, mount.ATTR_ATIME),
    "nostrictatime": (0, mount.ATTR_ATIME),
    "relatime": (0, mount.ATTR_ATIME),
    "norelatime": (0, 0),
    "nodiratime": (mount.ATTR_NODIRATIME, 0),
    "diratime": (0, mount.ATTR_NODIRATIME),
    "nosymfollow": (0x200000, 0),
    "symfollow": (0, 0x200000),
}
_PROPAGATION = {
    "private": mount.MS_PRIVATE,
    "slave": mount.MS_SLAVE,
    "shared": mount.MS_SHARED,
    "unbindable": mount.MS_UNBINDABLE,
}
_WITHOUT_MEANING = {
    "defaults", "async", "auto", "noauto", "user", "nouser", "z", "Z", "cached", "delegated", "consistent",
}


@dataclass
class MountOptions:
    """What a list of options asks for. `data` are the file system's own (`size=64m` → {"size": "64m"})."""

    set: int = 0
    clear: int = 0
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation: int = 0
    bind: bool = False
    recursive: bool = False
    copy_up: bool = False
    data: dict[str, str | None] = field(default_factory=dict)


def parse(options: list[str]) -> MountOptions:
    """Sort options by what they mean; unknown ones are the file system's. Later ones win, as in mount(8)."""
    result = MountOptions()
    for option in options:
        if option in ("bind", "rbind"):
            result.bind, result.recursive = True, option == "rbind"
        elif option in _ATTRIBUTES:
            _apply(result, *_ATTRIBUTES[option])
        elif option[:1] == "r" and option[1:] in _ATTRIBUTES:
            set_, clear = _ATTRIBUTES[option[1:]]
            result.recursive_set = result.recursive_set & ~clear | set_
            result.recursive_clear = result.recursive_clear & ~set_ | clear
        elif option in _PROPAGATION:
            result.propagation = _PROPAGATION[option]
        elif option[:1] == "r" and option[1:] in _PROPAGATION:
            result.propagation = _PROPAGATION[option[1:]] | mount.MS_REC
        elif option == "tmpcopyup":
            result.copy_up = True
        elif option not in _WITHOUT_MEANING:
            key, separator, value = option.partition("=")
            result.data[key] = value if separator else None
    return result


def _apply(result: MountOptions, set_: int, clear: int) -> None:
    result.set = result.set & ~clear | set_
    result.clear = result.clear & ~set_ | clear
