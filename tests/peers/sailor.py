"""An ordinary user with subordinate ids, for as long as a command runs: /etc is his in a mount namespace of its own."""

from __future__ import annotations

from pathlib import Path

UID = 4711
SUBORDINATE = 300000
"""The first of his 65536 subordinate user and group ids."""

SCRIPT = """\
for name in passwd group subuid subgid; do mount --bind "$1/$name" "/etc/$name"; done
"""
BECOME = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups")


def write_etc(directory: Path, home: Path) -> None:
    """Make `directory` with the four files."""
    directory.mkdir()
    sailor = f"sailor:x:{UID}:{UID}::{home}:/bin/sh\n"
    (directory / "passwd").write_text(f"root:x:0:0:root:/root:/bin/sh\n{sailor}")
    (directory / "group").write_text(f"root:x:0:\ntty:x:5:\nsailor:x:{UID}:\n")
    for name in ("subuid", "subgid"):
        (directory / name).write_text(f"sailor:{SUBORDINATE}:65536\n")


def prefix(etc: Path, more: str = "", root: bool = False) -> tuple[str, ...]:
    """What to write before a command, so that he runs it (or, with `root`, root does). `more`: shell commands that
    root runs in the mount namespace first; $1 is `etc`."""
    script = f'{SCRIPT}{more}\nshift; exec "$@"'
    line = ("unshare", "--mount", "--propagation", "slave", "sh", "-ec", script, "sh", str(etc))
    return line if root else (*line, *BECOME)
