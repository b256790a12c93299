"""The execution domain of a process: personality(2)."""

from __future__ import annotations

from sampan.lean import ctypes
from sampan.linux import libc

DOMAINS = {"LINUX": 0x0000, "LINUX32": 0x0008}
"""Names of config-linux.md, "Personality". LINUX32 makes uname(2) say i686 on x86_64."""

_personality = libc.lib.personality


def set_domain(domain: int) -> None:
    """For the calling thread and what it executes. Raises OSError."""
    if _personality(ctypes.c_ulong(domain)) < 0:
        raise libc.error("personality")
