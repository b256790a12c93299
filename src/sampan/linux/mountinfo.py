"""/proc/PID/mountinfo: the mounts of a mount namespace (proc(5))."""

from __future__ import annotations

from sampan.lean.record import dataclass


@dataclass(frozen=True)
class Mount:
    """A line of mountinfo. `options` are the mount's own, `super_options` the file system's; `propagation` is what the
    optional fields say ("shared:5", "master:1"); `root` is the directory of the file system that is shown.
    """

    id: int
    parent: int
    root: str
    target: str
    options: list[str]
    propagation: list[str]
    kind: str
    source: str
    super_options: list[str]

    @property
    def read_only(self) -> bool:
        return "ro" in self.options or "ro" in self.super_options


def own() -> list[Mount]:
    """Those of this process, in the kernel's order: later ones may lie over earlier ones."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [parse(line) for line in file]


def parse(line: str) -> Mount:
    before, _, after = line.rstrip("\n").partition(" - ")
    fields = before.split(" ")
    kind, source, super_options = after.split(" ", 2)
    return Mount(
        int(fields[0]), int(fields[1]), _unescape(fields[3]), _unescape(fields[4]), fields[5].split(","), fields[6:],
        kind, _unescape(source), super_options.split(","),
    )


def _unescape(text: str) -> str:
    """Space, tab, newline and backslash are written as three octal digits."""
    if "\\" not in text:
        return text
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, character)
    return text
