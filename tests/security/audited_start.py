"""Started as a process of its own: a container start with an audit hook (PEP 578) that tells all it saw.

The hook notes every import, library load and file opened by name after the root was entered; at the exec, when
descriptor 1 is already the container's output, it writes them there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.shim_fixture import make_process, make_spec

from sampan.linux import process
from sampan.linux.cgroup import detect
from sampan.oci import runtime as oci
from sampan.runtime import container
from sampan.runtime.newborn import Work
from sampan.runtime.rootfs import Directory

_TELLING = ("import", "ctypes.dlopen", "open", "os.listdir", "os.scandir", "subprocess.Popen")
_SEEN: list[str] = []
_STATE = {"entered": False}


def hook(event: str, args: tuple[Any, ...]) -> None:
    if event == "os.exec":
        os.write(1, json.dumps(_SEEN).encode())
    elif _STATE["entered"] and event in _TELLING:
        _SEEN.append(f"{event} {args[0]!r}")


def main() -> None:
    directory, cgroup = Path(sys.argv[1]), sys.argv[2]
    real = process.pivot_root_here

    def pivot_root_here() -> None:
        real()
        _STATE["entered"] = True

    process.pivot_root_here = pivot_root_here
    sys.addaudithook(hook)
    spec = make_spec(make_process(["true"], user=oci.User(username="sailor")), cgroup)
    near, far = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    work = Work(spec, Directory(str(directory / "root")), str(directory / "mount"), detect().without_v2())
    running = container.start(work, {}, (null, far, far))
    os.close(far)
    sys.stdout.write(os.read(near, 65536).decode())
    os.waitpid(running.pid, 0)
    container.remove_group(work)


main()
