"""The engine about itself and its host: info, version, what uses the disk."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from sampan import __version__
from sampan.engine import host, lifecycle, timestamps
from sampan.engine.events import Events
from sampan.engine.images import Images
from sampan.engine.index import Index
from sampan.engine.options import Options
from sampan.engine.runtimes import Runtimes
from sampan.engine.state import State
from sampan.engine.volumes import Volumes
from sampan.errors import InvalidArgument
from sampan.linux import cgroup
from sampan.linux.cgroup import features

if TYPE_CHECKING:
    from sampan.engine.builds import Builds
    from sampan.engine.containers import Containers

_TYPES = frozenset({"container", "image", "volume", "build-cache"})
_KIND, _ID = "engine", "id"


class System:
    """Everything is looked up when it is asked for; only the engine's id is kept."""

    def __init__(
        self, options: Options, state: State, index: Index, events: Events, cgroups: cgroup.Host,
        containers: Containers, images: Images, volumes: Volumes, builds: Builds,
        runtimes: Runtimes,
    ) -> None:
        self._options = options
        self._index = index
        self._events = events
        self._cgroups = cgroups
        self._containers = containers
        self._images = images
        self._volumes = volumes
        self._builds = builds
        self._runtimes = runtimes
        known = dict(state.load(_KIND))
        if _ID not in known:
            known[_ID] = str(uuid.uuid4()).encode()
            state.save(_KIND, _ID, known[_ID])
        self._id = known[_ID].decode()

    def version(self) -> dict[str, Any]:
        """`GET /version` without what the API says of itself."""
        kernel, arch = os.uname().release, host.architecture()
        details = {"Arch": arch, "Os": "linux", "KernelVersion": kernel, "Experimental": "false", "GitCommit": "",
                   "GoVersion": f"none, {host.python()}", "BuildTime": ""}
        return {
            "Platform": {"Name": "Sampan"}, "Version": __version__, "Os": "linux", "Arch": arch,
            "KernelVersion": kernel, "GitCommit": "", "GoVersion": details["GoVersion"], "BuildTime": "",
            "Components": [{"Name": "Engine", "Version": __version__, "Details": details}],
        }

    def info(self) -> dict[str, Any]:
        """`GET /info`."""
        return self._counts() | self._host() | self._limits() | {
            "ID": self._id, "ServerVersion": __version__, "DockerRootDir": str(self._options.data_root),
            "Driver": "overlay2", "DriverStatus": [
                ["Backing Filesystem", host.file_system(self._options.data_root)], ["Supports d_type", "true"],
                ["Native Overlay Diff", "true"],
            ],
            "Plugins": {
                "Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": None, "Log": ["json-file"],
            },
            "Debug": self._options.log_level == "debug", "NFd": len(os.listdir("/proc/self/fd")),
            "NGoroutines": len(asyncio.all_tasks()), "NEventsListener": self._events.listeners,
            "SystemTime": timestamps.rfc3339(time.time_ns()), "LoggingDriver": "json-file",
            "IndexServerAddress": "", "RegistryConfig": {
                "IndexConfigs": {}, "InsecureRegistryCIDRs": [], "Mirrors": [],
                "AllowNondistributableArtifactsCIDRs": None, "AllowNondistributableArtifactsHostnames": None,
            },
            "HttpProxy": "", "HttpsProxy": "", "NoProxy": "", "Labels": [], "ExperimentalBuild": False,
            "Runtimes": {name: {"path": path} for name, path in self._runtimes.known().items()},
            "DefaultRuntime": self._runtimes.default, "InitBinary": "sampan",
            "ContainerdCommit": {"ID": ""}, "RuncCommit": {"ID": ""}, "InitCommit": {"ID": ""},
            "Swarm": {
                "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False, "Error": "",
                "RemoteManagers": None,
            },
            "LiveRestoreEnabled": True, "Isolation": "", "GenericResources": None, "CDISpecDirs": [],
            "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
        }

    def _counts(self) -> dict[str, int]:
        states = [it.record.status for it in self._index if not it.record.internal]
        running, paused = states.count(lifecycle.RUNNING), states.count(lifecycle.PAUSED)
        return {
            "Containers": len(states), "ContainersRunning": running, "ContainersPaused": paused,
            "ContainersStopped": len(states) - running - paused, "Images": len(self._images.list(all=True)),
        }

    def _host(self) -> dict[str, Any]:
        system, version = host.operating_system()
        uname = os.uname()
        return {
            "Name": uname.nodename, "KernelVersion": uname.release, "OperatingSystem": system, "OSVersion": version,
            "OSType": "linux", "Architecture": uname.machine, "NCPU": len(os.sched_getaffinity(0)),
            "MemTotal": host.memory_total(), "IPv4Forwarding": host.forwards_ipv4(),
        }

    def _limits(self) -> dict[str, Any]:
        """What limits this host can set, and a warning for each one it cannot, in Docker's words."""
        can = features.read(self._cgroups)
        answer = {
            "CgroupDriver": "cgroupfs", "CgroupVersion": "2" if self._cgroups.mode == "v2" else "1",
            "MemoryLimit": can.memory_limit, "SwapLimit": can.swap_limit, "CpuCfsPeriod": can.cpu_cfs,
            "CpuCfsQuota": can.cpu_cfs, "CPUShares": can.cpu_shares, "CPUSet": can.cpuset, "PidsLimit": can.pids_limit,
            "OomKillDisable": can.oom_kill_disable,
        }
        words = {
            "MemoryLimit": "memory limit", "SwapLimit": "swap limit", "CpuCfsQuota": "cpu cfs quota",
            "CPUShares": "cpu shares", "CPUSet": "cpuset", "PidsLimit": "pids limit",
        }
        warnings = [f"WARNING: No {text} support" for name, text in words.items() if not answer[name]]
        if not host.forwards_ipv4():
            warnings.append("WARNING: IPv4 forwarding is disabled")
        return answer | {"Warnings": warnings or None}

    async def df(self, types: Collection[str] = ()) -> dict[str, Any]:
        """`GET /system/df`; `types` out of container, image, volume, build-cache, empty for all."""
        for kind in types:
            if kind not in _TYPES:
                raise InvalidArgument(f"unknown object type: {kind}")
        wanted = set(types) or _TYPES
        answer: dict[str, Any] = {"BuilderSize": 0}
        if "image" in wanted:
            images = self._images.list(all=True, shared_size=True)
            answer |= {"Images": images, "LayersSize": self._images.layers_size()}
        if "container" in wanted:
            answer["Containers"] = await self._sized_containers()
        if "volume" in wanted:
            answer["Volumes"] = await self._volumes.usage()
        if "build-cache" in wanted:
            answer["BuildCache"] = self._builds.cache()
        return answer

    async def _sized_containers(self) -> Sequence[dict[str, Any]]:
        return await self._containers.list(all=True, size=True)
