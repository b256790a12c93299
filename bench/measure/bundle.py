"""An OCI bundle for the runtimes alone: busybox, `true`, no network. Read-only, so that one root serves every run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tree import TreeShell


def make(directory: Path, root: Path, shell: TreeShell) -> Path:
    """The runtime's own default spec, with our command."""
    bundle = directory / "bundle"
    bundle.mkdir()
    shell.run(f"cd {bundle} && runc spec")
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"] |= {"args": ["true"], "terminal": False}
    spec["process"].pop("rlimits", None)
    spec["root"] = {"path": str(root), "readonly": True}
    (bundle / "config.json").write_text(json.dumps(spec))
    return bundle


def unpack(directory: Path, tar: Path) -> Path:
    root = directory / "root"
    root.mkdir()
    subprocess.run(["tar", "-xf", tar, "-C", root], check=True)
    return root
