"""What `sampan-runtime` starts with: a program of 30 ms must not import what takes longer to load than to use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src"
FORBIDDEN = {
    "argparse", "array", "asyncio", "ctypes", "collections", "collections.abc", "contextlib", "dataclasses",
    "datetime", "enum", "functools", "hashlib", "inspect", "json", "logging", "msgspec", "operator", "pathlib",
    "platform", "re", "shutil", "signal", "socket", "subprocess", "tempfile", "termios", "threading", "types", "typing",
}
# Notes which module's import brings which, then imports what it is told to.
WATCH = """
import sys
sys.path.insert(0, sys.argv[1])
already = set(sys.modules)
class Watch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        frame, chain = sys._getframe(1), [name]
        while frame is not None:
            if frame.f_code.co_name == "<module>" and frame.f_globals["__name__"] != "__main__":
                chain.append(frame.f_globals["__name__"])
            frame = frame.f_back
        chains[name] = " <- ".join(chain)
chains = {}
sys.meta_path.insert(0, Watch)
__import__(sys.argv[2])
for name in sorted(set(sys.modules) - already):
    print(name, chains.get(name, ""), sep="\\t")
"""


def loaded_by(module: str) -> dict[str, str]:
    """What a fresh interpreter has to load for a module, each with the chain of imports that brought it."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", WATCH, str(SOURCES), module], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split("\t") for line in done.stdout.splitlines())


@pytest.mark.parametrize("module", [
    "sampan.oci.runtime", "sampan.jobs.channel", "sampan.linux.seccomp", "sampan.linux.seccomp_cache",
    "sampan.linux.userns", "sampan.linux.cgroup", "sampan.runtime.container", "sampan.runtime.enter",
    *(f"sampan.runtime.command.{name}" for name in (
        "main", "run", "create", "start", "exec_", "kill", "state", "delete", "list_", "ps", "pause", "resume",
    )),
])
def test_nothing_heavy_is_on_the_way(module: str) -> None:
    loaded = loaded_by(module)
    heavy = {name: chain for name, chain in loaded.items() if name in FORBIDDEN}
    assert not heavy, "\n".join(heavy.values())
