"""The OCI runtimes that containers can be run with: our own, those found on this host, those the engine was told of.

"sampan" is our own: no program is run for it, the shim does it all. Any other is a program with runc's command line.
A name is looked up when it is used: a runtime that is installed later is there then.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping

from sampan.errors import InvalidArgument

OWN = "sampan"
_FOUND = ("runc", "crun", "sampan-runtime")
_SYSTEM = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_DOCKERS_DEFAULT = "io.containerd.runc.v2"  # containerd's name for what dockerd runs when nothing was said


class Runtimes:
    def __init__(self, added: Mapping[str, str], default: str) -> None:
        """`added`: name → absolute path, or a name to find on PATH. Raises InvalidArgument for what cannot be."""
        for name, path in added.items():
            if name == OWN:
                raise InvalidArgument(f"runtime name '{OWN}' is reserved")
            if not name or "/" in name or not path or ("/" in path and not path.startswith("/")):
                raise InvalidArgument(f"invalid runtime {name}={path}: give a name and an absolute path")
        self._added = dict(added)
        self.default = OWN
        if default != OWN:
            if not self._path(default):
                raise InvalidArgument(f"specified default runtime '{default}' does not exist")
            self.default = default

    def name(self, asked: str) -> str:
        """What inspect shows for what was asked. Raises InvalidArgument in dockerd's words when there is none."""
        if asked in ("", _DOCKERS_DEFAULT):
            return self.default
        if asked != OWN:
            self.program(asked)
        return asked

    def program(self, name: str) -> str | None:
        """The program of a runtime, None for our own. Raises InvalidArgument in dockerd's words when there is none."""
        if name == OWN:
            return None
        path = self._path(name)
        if not path:
            raise InvalidArgument(f"unknown or invalid runtime name: {name[:200]}")
        return path

    def known(self) -> dict[str, str]:
        """Name → path, of those that are there now."""
        found = {name: self._path(name) for name in (*_FOUND, *self._added)}
        return {OWN: OWN} | {name: path for name, path in sorted(found.items()) if path}

    def _path(self, name: str) -> str:
        """"" if it is not there."""
        if name in self._added:
            return _which(self._added[name])
        if name in _FOUND:
            return _which(name)
        return _which(name) if name.startswith("/") else ""


def _which(name: str) -> str:
    """On PATH, beside our own interpreter, or where the system keeps programs for root."""
    if "\0" in name:
        return ""
    places = [os.environ.get("PATH", ""), os.path.dirname(sys.executable), *_SYSTEM]
    return shutil.which(name, path=os.pathsep.join(places)) or ""
