"""What every operation on containers works with: made once by Engine, passed on, never global."""

from __future__ import annotations

from dataclasses import dataclass

from sampan.engine import record as records
from sampan.engine.berths import Berths
from sampan.engine.container import Container
from sampan.engine.events import Events
from sampan.engine.index import Index
from sampan.engine.networks import Networks
from sampan.engine.options import Options
from sampan.engine.record import Record
from sampan.engine.runtimes import Runtimes
from sampan.engine.spec import Facts
from sampan.engine.state import State
from sampan.engine.trash import Trash
from sampan.engine.volumes import Volumes
from sampan.image.store import Store
from sampan.jobs.client import ForkServer
from sampan.linux import seccomp_cache
from sampan.linux.cgroup import Host
from sampan.network.bridge import BridgeNetwork

KIND = "container"


@dataclass(frozen=True)
class Context:
    options: Options
    state: State
    events: Events
    index: Index
    launcher: ForkServer
    worker: ForkServer
    store: Store
    network: BridgeNetwork
    volumes: Volumes
    networks: Networks
    trash: Trash
    berths: Berths
    cgroups: Host
    facts: Facts
    seccomp: seccomp_cache.Cache
    runtimes: Runtimes

    def save(self, container: Container) -> None:
        """Make the record as it is now survive this engine. Raises OutOfSpace."""
        self.state.save(KIND, container.id, records.encode(container.record))

    def publish(self, container: Container, action: str, **attributes: str) -> None:
        """A container event."""
        if not container.record.internal:
            self.events.publish("container", action, container.id, container.actor() | attributes)

    def directory(self, id: str) -> str:
        """DATA_ROOT/containers/ID."""
        return f"{self.options.containers}/{id}"

    def run_directory(self, id: str) -> str:
        """EXEC_ROOT/containers/ID: there while its shim is, and until the engine has taken in how it ended."""
        return f"{self.options.runs}/{id}"

    def files_directory(self, id: str) -> str:
        """EXEC_ROOT/files/ID: there while it runs."""
        return f"{self.options.files}/{id}"

    def cgroup_path(self, record: Record) -> str:
        """The container's group: below the parent it asked for, or the engine's."""
        parent = record.host_config.get("CgroupParent") or self.options.cgroup_parent
        return f"{parent.strip('/')}/{record.id}"
