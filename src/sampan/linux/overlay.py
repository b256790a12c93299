"""overlayfs from options as mount(8) takes them, however long: overlayfs(5), fsconfig(2)."""

from __future__ import annotations

import errno
import os

from sampan.linux import mount

_LONGEST = 255  # bytes that fsconfig(2) takes for one value
_DIRECTORIES = ("upperdir", "workdir")


def new(options: dict[str, str | None], attributes: int = 0) -> int:
    """A detached overlay mount. Returns its fd. Raises OSError with the option, and the kernel's words.

    An option of more than 255 bytes, as container engines make them for many layers, is taken apart: one `lowerdir+`
    for each layer (Linux 6.5), and a directory whose own name is too long by a descriptor's number.
    """
    if all(len((value or "").encode()) <= _LONGEST for value in options.values()):
        return mount.new("overlay", options, attributes)
    lower = layers(options.get("lowerdir") or "")
    try:
        return _by_parts(options, lower, attributes, one_by_one=True)
    except OSError as error:
        if error.errno != errno.EINVAL or any(data for _, data in lower):
            raise
        return _by_parts(options, lower, attributes, one_by_one=False)


def layers(lowerdir: str) -> list[tuple[str, bool]]:
    """The directories of a `lowerdir`, topmost first, and whether each is data-only (those after "::").

    Colons in a name are written `\\:`, backslashes `\\\\`.
    """
    found: list[tuple[str, bool]] = []
    name, data, position = "", False, 0
    while position < len(lowerdir):
        letter = lowerdir[position]
        if letter == "\\" and position + 1 < len(lowerdir):
            position += 1
            name += lowerdir[position]
        elif letter == ":":
            if name:
                found.append((name, data))
            data, name = data or not name, ""
        else:
            name += letter
        position += 1
    return [*found, (name, data)] if name else found


def _by_parts(
    options: dict[str, str | None], lower: list[tuple[str, bool]], attributes: int, one_by_one: bool
) -> int:
    """Descriptors' numbers are looked up below /proc/self/fd, the current directory meanwhile."""
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    fds: list[int] = []

    def short(name: str, always: bool = False) -> str:
        if not always and name.startswith("/") and len(name.encode()) <= _LONGEST and "\\" not in name:
            return name
        fds.append(os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here))
        return str(fds[-1])

    filesystem = mount.Filesystem("overlay")
    try:
        os.chdir("/proc/self/fd")
        if one_by_one:
            for name, data in lower:
                filesystem.set("datadir+" if data else "lowerdir+", short(name))
        else:
            filesystem.set("lowerdir", ":".join(short(name, always=True) for name, _ in lower))
        for key, value in options.items():
            if key in _DIRECTORIES and value:
                filesystem.set(key, short(value))
            elif key != "lowerdir":
                filesystem.set(key, value)
        return filesystem.mount(attributes)
    finally:
        os.fchdir(here)
        filesystem.close()
        for fd in (here, *fds):
            os.close(fd)
