"""The engine: everything wired together, without HTTP."""

from __future__ import annotations

import gc
import logging
import os
import resource

from sampan.build.builder import Builder
from sampan.engine import cgroup_parent, claim
from sampan.engine.berths import Berths
from sampan.engine.builds import Builds
from sampan.engine.containers import Containers
from sampan.engine.context import Context
from sampan.engine.events import Events
from sampan.engine.execs import Execs, ExecTable
from sampan.engine.images import Images
from sampan.engine.index import Index
from sampan.engine.lifetime import Lifetime
from sampan.engine.networks import Networks
from sampan.engine.options import Options
from sampan.engine.recovery import Recovery
from sampan.engine.runtimes import Runtimes
from sampan.engine.spec import facts
from sampan.engine.state import State
from sampan.engine.step_runner import StepRunner
from sampan.engine.system import System
from sampan.engine.trash import Trash
from sampan.engine.volumes import Volumes
from sampan.errors import SampanError
from sampan.image.store import Store
from sampan.jobs.client import ForkServer
from sampan.linux import cgroup, seccomp_cache
from sampan.network.bridge import BridgeNetwork
from sampan.shim.external.hierarchies import remove_empty

log = logging.getLogger(__name__)


class Engine:
    """`await start()`, then use the services; `await close()` leaves the containers running."""

    def __init__(self, options: Options) -> None:
        """Takes the data root for itself. Raises Conflict when another engine has it, Internal for a broken state."""
        self.options = options
        _make_directories(options)
        self.state = State(options.data_root / "state.db")
        try:
            self._wire(options)
        except BaseException:
            self.state.close()
            raise

    def _wire(self, options: Options) -> None:
        self._claimed: list[int] = []
        self.launcher = ForkServer("sampan.shim.launcher", launcher_environment())
        self.worker = ForkServer("sampan.engine.worker")
        self.events = Events()
        index = Index()
        store = Store(options.data_root)
        trash = Trash(options.trash, self.worker)
        self.networks = Networks(self.state, options, index)
        self.volumes = Volumes(self.state, options.data_root / "volumes", trash, self.worker, self.events, index)
        cgroups = cgroup.detect().without_v2()
        self.context = ctx = Context(
            options=options, state=self.state, events=self.events, index=index, launcher=self.launcher,
            worker=self.worker, store=store, network=BridgeNetwork(options.bridge, options.bip, options.pool_size),
            volumes=self.volumes, networks=self.networks, trash=trash, cgroups=cgroups,
            berths=Berths(str(options.berths), self.worker),
            facts=facts.read(cgroups), seccomp=seccomp_cache.Cache(str(options.data_root / "seccomp")),
            runtimes=Runtimes(options.runtimes, options.default_runtime),
        )
        table = ExecTable(ctx)
        self._life = Lifetime(ctx, table)
        self._recovery = Recovery(ctx, self._life, table)
        self.containers = Containers(ctx, self._life, table)
        self.execs = Execs(ctx, table)
        builder = Builder(store, self.worker, StepRunner(ctx, self._life), options.data_root)
        self.images = Images(store, self.worker, self.events, index, builder.cache.layers)
        self.builds = Builds(builder, self.images, self.events)
        self.system = System(
            options, self.state, index, self.events, ctx.cgroups, self.containers, self.images, self.volumes,
            self.builds, ctx.runtimes,
        )

    async def start(self) -> None:
        """Start the helpers, find what runs, bring up the network.

        Raises Conflict for an address range, an exec root or a cgroup parent in use, InvalidArgument for a parent that
        is none.
        """
        os.umask(0o022)
        self._claim()
        self.launcher.start()
        self.worker.start()
        _raise_file_limit()
        try:
            await self._recovery.run()
        except BaseException:
            await self.close()
            raise
        self.context.berths.open()
        if self.context.store.leftovers:
            self._life.soon(self._sweep_images())
        for problem in [*self.context.store.problems, *self.context.network.warnings]:
            log.warning("%s", problem)
        gc.collect()
        gc.freeze()  # what is here now stays: no collection needs to look at it again

    def _claim(self) -> None:
        runs, parent = str(self.options.runs), self.options.cgroup_parent
        try:
            self._claimed.append(claim.take(runs, f"another engine uses {self.options.exec_root} as its exec root"))
            self._claimed.append(cgroup_parent.hold(self.context.cgroups, parent))
        except BaseException:
            self.state.close()
            raise

    async def _sweep_images(self) -> None:
        store = self.context.store
        try:
            await self.worker.run("image.sweep", {"data_root": store.layout.root, "names": store.leftovers})
        except SampanError as error:
            log.warning("half-made images could not be removed: %s", error)

    async def close(self) -> None:
        """Let go of everything. Containers run on, with their network; the next engine finds them."""
        running = any(container.alive for container in self.context.index)
        await self._life.close()
        self.context.trash.close()
        self.context.berths.close()
        await self.context.network.close(keep=running)
        self.launcher.close()
        self.worker.close()
        if not running:
            cgroup.prune(self.context.cgroups, self.options.cgroup_parent)
            remove_empty(self.options.cgroup_parent)  # other runtimes make it in every hierarchy
        for fd in self._claimed:  # only now: nobody may take what we are about to remove
            os.close(fd)
        self.state.close()


def launcher_environment() -> dict[str, str]:
    """Nothing of the engine's: process 1 of `--init` is a fork of the launcher, and who may trace reads its environment
    (CVE-2021-3602). What the interpreter may need to start at all is no secret.
    """
    return {"LC_ALL": "C.UTF-8"} | {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}


def _raise_file_limit() -> None:
    """A descriptor or two per container. After the launcher was started: containers keep the limits we were given."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _make_directories(options: Options) -> None:
    for path, mode in (
        (options.data_root, 0o711), (options.exec_root, 0o755), (options.containers, 0o710), (options.trash, 0o700),
        (options.berths, 0o700), (options.runs, 0o700), (options.files, 0o711),
    ):
        path.mkdir(parents=True, exist_ok=True)
        os.chmod(path, mode)
