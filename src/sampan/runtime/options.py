"""Mount options as fstab(5), Docker and the OCI runtime spec write them → attributes, propagation, data.

Source: config.md, "Linux mount options", of runtime-spec 1.2; what is not in its table is the file system's own.
"""

from __future__ import annotations

from sampan.lean.record import dataclass, field
from sampan.linux import mount

# name → (attributes to set, attributes to clear); an "r" in front makes it recursive: mount_setattr(2)
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
    "nosymfollow": (mount.ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, mount.ATTR_NOSYMFOLLOW),
}
_PROPAGATION = {
    "private": mount.MS_PRIVATE,
    "slave": mount.MS_SLAVE,
    "shared": mount.MS_SHARED,
    "unbindable": mount.MS_UNBINDABLE,
}
# Flags of the superblock: they mean something for a fresh file system, nothing for a bind.
_SUPERBLOCK = {
    "sync": ("sync", True), "async": ("sync", False),
    "dirsync": ("dirsync", True), "nodirsync": ("dirsync", False),
    "lazytime": ("lazytime", True), "nolazytime": ("lazytime", False),
    "mand": ("mand", True), "nomand": ("mand", False),
}
_WITHOUT_MEANING = {
    "defaults", "auto", "noauto", "user", "nouser", "z", "Z", "cached", "delegated", "consistent", "silent", "loud",
    "iversion", "noiversion", "acl", "noacl",
}


@dataclass
class MountOptions:
    """What a list of options asks for. `data` are the file system's own (`size=64m` → {"size": "64m"}).

    `set` and `clear` hold ATTR_… of the mount itself, `recursive_…` those of all mounts below it too; `propagation` the
    MS_… asked for, in order, each perhaps with MS_REC; `superblock` flags of a fresh file system. `id_map` is "" or
    the option that asks for an idmapped mount: "idmap" or, with all mounts below, "ridmap".
    """

    set: int = 0
    clear: int = 0
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation: list[int] = field(default_factory=list)
    bind: bool = False
    recursive: bool = False
    remount: bool = False
    copy_up: bool = False
    id_map: str = ""
    superblock: list[str] = field(default_factory=list)
    data: dict[str, str | None] = field(default_factory=dict)

    @property
    def read_only(self) -> bool:
        return bool(self.set & mount.ATTR_RDONLY)


def parse(options: list[str]) -> MountOptions:
    """Sort options by what they mean; unknown ones are the file system's. Later ones win, as in mount(8)."""
    result = MountOptions()
    for option in options:
        plain = option[1:] if option[:1] == "r" else ""
        if option in ("bind", "rbind"):
            result.bind, result.recursive = True, option == "rbind"
        elif option in _ATTRIBUTES:
            set_, clear = _ATTRIBUTES[option]
            result.set, result.clear = result.set & ~clear | set_, result.clear & ~set_ | clear
        elif plain in _ATTRIBUTES:
            set_, clear = _ATTRIBUTES[plain]
            result.recursive_set = result.recursive_set & ~clear | set_
            result.recursive_clear = result.recursive_clear & ~set_ | clear
        elif option in _PROPAGATION:
            result.propagation.append(_PROPAGATION[option])
        elif plain in _PROPAGATION:
            result.propagation.append(_PROPAGATION[plain] | mount.MS_REC)
        elif option in _SUPERBLOCK:
            _superblock(result, *_SUPERBLOCK[option])
        elif option in ("idmap", "ridmap"):
            result.id_map = option
        elif option == "remount":
            result.remount = True
        elif option == "tmpcopyup":
            result.copy_up = True
        elif option not in _WITHOUT_MEANING:
            key, separator, value = option.partition("=")
            result.data[key] = value if separator else None
    return result


def _superblock(result: MountOptions, flag: str, wanted: bool) -> None:
    if flag in result.superblock:
        result.superblock.remove(flag)
    if wanted:
        result.superblock.append(flag)


def root_propagation(name: str) -> int:
    """MS_… flags of `linux.rootfsPropagation`, 0 for "" (the runtime's default). Raises ValueError for another word."""
    if not name:
        return 0
    plain = name[1:] if name[:1] == "r" else name
    if plain not in _PROPAGATION:
        raise ValueError(f"rootfsPropagation {name!r} is none of shared, slave, private, unbindable")
    return _PROPAGATION[plain] | (mount.MS_REC if plain != name else 0)


def known() -> list[str]:
    """Every option that is not left to a file system, sorted: for features.md, "mountOptions"."""
    own = {*_ATTRIBUTES, *_PROPAGATION, *_SUPERBLOCK, *_WITHOUT_MEANING}
    recursive = {f"r{name}" for name in (*_ATTRIBUTES, *_PROPAGATION)}
    return sorted({*own, *recursive, "bind", "rbind", "idmap", "ridmap", "remount", "tmpcopyup"})
