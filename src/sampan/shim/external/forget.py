"""The engine's part: a container whose shim was killed is made unknown to its runtime."""

from __future__ import annotations

import logging
import os
import subprocess

from sampan.shim.external import command, hierarchies
from sampan.shim.external.undo import PATIENCE

log = logging.getLogger(__name__)


def forget(runtime: str, run: str, id: str, cgroup_path: str) -> None:
    """`RUNTIME delete --force ID` and the cgroups that are still there. The container's processes have ended.

    `run` is RUN; the caller removes it. Blocks, at most as long as `delete` may take; what fails is logged.
    """
    if os.path.isdir(f"{run}/{command.STATE}"):  # allowed: the engine's own directory
        args = [runtime, "--root", command.STATE, "delete", "--force", id]
        try:
            done = subprocess.run(
                args, cwd=run, env=command.ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, timeout=PATIENCE, check=False,
            )
            if done.returncode:
                log.warning("%s delete %s: %s", runtime, id, done.stderr[-1000:].decode("utf-8", "replace").strip())
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("%s delete %s: %s", runtime, id, error)
    hierarchies.remove_empty(cgroup_path)
