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

from sampan.jobs import channel as wire
from sampan.lean import structs
from sampan.linux import clone, husk, process
from sampan.linux.cgroup import detect
from sampan.oci import runtime as oci
from sampan.runtime import container, newborn
from sampan.runtime.ahead import Ahead, Spare
from sampan.runtime.newborn import Work
from sampan.runtime.rootfs import Directory
from sampan.runtime.scaffold import outline

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
    stdio = null, far, far
    pid = start_ahead(work, stdio) if sys.argv[3] == "ahead" else container.start(work, {}, stdio).pid
    os.close(far)
    sys.stdout.write(os.read(near, 65536).decode())
    os.waitpid(pid, 0)
    container.remove_group(work)


def start_ahead(work: Work, stdio: tuple[int, int, int]) -> int:
    """As the launcher's spares do it: by a process that is in its namespaces before it knows its work."""
    ours, theirs = wire.pair()
    host = os.getpid()
    husked = os.fork()
    if husked == 0:
        husk.leave(newborn.USUAL | clone.PARENT)
        ahead = Ahead()
        ahead.own_network, ahead.outline = True, outline(work.spec, True)
        spare = Spare.make(ahead)
        ahead.pages.populate()
        wire.send(theirs, {"pid": int(os.readlink("/proc/self"))})
        newborn.become(theirs, structs.encode(work).decode(), {}, stdio, spare)
    assert os.getpid() == host
    theirs.close()
    first = wire.receive(ours)
    assert first is not None
    container.await_exec(ours)
    os.waitpid(husked, 0)
    return int(first[0]["pid"])


main()
