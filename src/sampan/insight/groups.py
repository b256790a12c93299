"""Where a container's control groups are."""

from __future__ import annotations

import os
from typing import Any

from sampan.insight.proc import Process
from sampan.linux import cgroup


def directories(init: Process, details: dict[str, Any]) -> dict[str, str]:
    """Controller ("unified" for v2) → directory, of the groups that are the container's own: as the engine says, else
    found by the init process. Raises Unsupported, OSError."""
    said = details["State"].get("Cgroups")
    if said:
        return {str(name): str(path) for name, path in said.items() if os.path.isdir(path)}
    host, home = cgroup.detect(), init.cgroups()
    found = {name: f"{mount}{home[name]}" for name, mount in host.v1.items() if home.get(name, "/") != "/"}
    if host.v2 and home.get("", "/") != "/":
        found["unified"] = f"{host.v2}{home['']}"
    return {name: path for name, path in found.items() if os.path.isdir(path)}
