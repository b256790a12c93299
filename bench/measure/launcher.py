"""A start from the engine's launcher, without the engine around it: what the warm processes make of the floor's work.

The launcher is the engine's own (`python -m sampan.shim.launcher`), asked by the engine's own client (`ShimClient`),
for the container that the engine makes of `docker run --network none busybox true`: the spec of engine/spec, overlay,
compiled seccomp policy, json log. No HTTP, no database, no network. bench/floor.c makes the kernel calls of just this.

Two clocks, the floor's beside each:

    known    starts when the launcher is asked (floor: its directories are made, it begins with the cgroups) and stops
             when the exit status has arrived here (floor: waitpid has returned). The cgroups are made in between, the
             process is limited, confined and executed, has ended and was waited for.
    clean    starts one step earlier, with upper, work and the three files of /etc, and stops when nothing is left:
             cgroups and all those directories removed, the shim gone or about to end (floor: its whole run).

What is done ahead, and not on the clock: the launcher's spares, each a process in new namespaces, its memory its own,
with /proc, /dev and /sys mounted as the last container had them (runtime/ahead.py). They are made again behind each
start: `once` waits for that first, as a machine at rest would. The floor makes all of it on the clock: about 1.2 ms.
On both sides /bin/true is busybox's, on the same file system.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from sampan.engine import config as settings
from sampan.engine import engine, hostconfig, remains, spec
from sampan.engine.spec import facts
from sampan.jobs.client import ForkServer
from sampan.linux import cgroup, paths, seccomp_cache
from sampan.shim.client import ShimClient
from sampan.shim.messages import Log, Overlay, StartRequest

LESSONS = 6
"""Starts after which a launcher knows what it can know: three teach it, and two spares may be older than that."""

SETTLE = 0.15
"""Seconds in which the launcher makes its spares anew: it rests 30 ms first, forking and warming takes 20."""

FILES = ("hosts", "hostname", "resolv.conf")


class Launcher:
    """A launcher and its asker. `directory` holds what its containers need; `root` is the only layer."""

    def __init__(self, directory: Path, root: Path, group: str) -> None:
        self.directory = directory
        self.root = root
        self.group = group
        self.steps: list[dict[str, float]] = []
        directory.mkdir()
        self._count = 0
        self._loop = asyncio.new_event_loop()
        self._host = cgroup.detect().without_v2()
        self._facts = facts.read(self._host)
        self._seccomp = seccomp_cache.Cache(str(directory / "seccomp"))
        self._server = ForkServer("sampan.shim.launcher", engine.launcher_environment())
        self._server.start()

    def close(self) -> None:
        self._server.close()
        self._loop.close()
        cgroup.prune(self._host, self.group)

    def once(self) -> tuple[float, float]:
        """Seconds until its end was known, and of the whole."""
        time.sleep(SETTLE)
        return self._loop.run_until_complete(self._run())

    async def _run(self) -> tuple[float, float]:
        self._count += 1
        name = f"{self._count:064x}"
        request = self._request(name)
        news: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        began = time.perf_counter()
        place = f"{self.directory}/{name}"
        for directory in (place, f"{place}/upper", f"{place}/work"):
            os.mkdir(directory, 0o755)
        for file in FILES:
            fd = os.open(f"{place}/{file}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.write(fd, b"127.0.0.1 localhost\n")
            os.close(fd)
        asked = time.perf_counter()
        shim = await ShimClient.launch(self._server, request, None, [], news.put_nowait)
        event = await news.get()
        ended = time.perf_counter()
        remains.remove_directory(request.directory)
        directory_fd = os.open(str(self.directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        paths.remove_tree(directory_fd, name)
        os.close(directory_fd)
        shim.close()
        done = time.perf_counter()
        if event["event"] != "exited" or event["status"] != 0:
            raise RuntimeError(f"the container ended with {event}")
        self.steps.append(_by_name(shim))
        if any(os.path.isdir(f"{top}/{self.group}/{name}") for top in self._host.v1.values()):
            raise RuntimeError("its cgroup is still there")  # they are removed before the exit is told
        return ended - asked, done - began

    def _request(self, name: str) -> StartRequest:
        place = f"{self.directory}/{name}"
        config = settings.merge({"Cmd": ["/bin/true"], "Hostname": name[-12:], "Image": ""}, None)
        host_config = hostconfig.host_config({"NetworkMode": "none"})
        made = spec.make(
            config, host_config, self._facts, cgroups_path=f"{self.group}/{name}",
            files={f"/etc/{file}": f"{place}/{file}" for file in FILES},
        )
        assert made.policy is not None
        return StartRequest(
            id=name, directory=f"{self.directory}/run-{name}", spec=made.spec,
            rootfs=Overlay([str(self.root)], f"{place}/upper", f"{place}/work"),
            cgroup_host=msgspec.to_builtins(self._host), seccomp=self._seccomp.path(made.policy),
            log=Log(f"{self.directory}/log.json"),
        )


def _by_name(shim: ShimClient) -> dict[str, float]:
    steps: dict[str, float] = {}
    for step in shim.report.steps:
        steps[step.name] = steps.get(step.name, 0.0) + step.micros / 1e6
    return steps
