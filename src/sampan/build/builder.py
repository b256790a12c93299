"""Dockerfile → image: the stages one after the other, each step from the cache or made anew.

The engine's process runs this; it touches no file of a context or a layer itself: that is what the jobs are for.
"""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sampan.build import dockerfile, grammar, stage
from sampan.build.arguments import Arguments
from sampan.build.cache import Cache
from sampan.build.dockerfile import DockerfileError, Node
from sampan.build.expansion import Rules, expand
from sampan.build.instruction import Copy, From, Instruction, Label, OnBuild, Plan, Stage
from sampan.build.options import BuildOptions, check_platform
from sampan.build.progress import Emit, Progress
from sampan.build.stage import State
from sampan.build.step import StepRunner
from sampan.build.stepping import Resources, Stepping
from sampan.errors import InvalidArgument, NotFound, SampanError
from sampan.image import reference
from sampan.image.store import Store
from sampan.jobs.client import ForkServer

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


def host_platform() -> str:
    """This host in Docker's words: "linux/amd64"."""
    machine = platform.machine()
    return f"linux/{_MACHINES.get(machine, machine)}"


class Builder:
    """Builds images into a store. Several builds may run at once.

    `worker` serves the jobs of `build.jobs`; `runner` runs RUN steps. `cache` may be listed and pruned at any time;
    a collector of layers has to keep `cache.layers()`.
    """

    def __init__(self, store: Store, worker: ForkServer, runner: StepRunner, data_root: str | os.PathLike[str]) -> None:
        self._store = store
        self._worker = worker
        self._runner = runner
        self._removals: set[asyncio.Future[dict[str, Any]]] = set()
        self.cache = Cache(f"{os.fspath(data_root)}/build/cache", store.layout)

    async def build(self, options: BuildOptions, context_fd: int, emit: Emit) -> str:
        """Build and tag an image; its id. `context_fd`, the caller's: a tar stream, compressed or not, or a directory.

        Messages for the client go to `emit`, the last one about an error not: that is raised, always a SampanError or
        OSError (`progress.failure` makes the message). Cancelled or failed, nothing stays but finished steps in the
        cache.
        """
        options.check(host_platform())
        for name in options.tags:
            reference.parse_tag(name)
        workspace = f"{self._store.layout.tmp}/build-{secrets.token_hex(8)}"
        os.mkdir(workspace, 0o700)
        try:
            with self._store.hold():
                return await self._build(options, context_fd, Progress(emit, options.quiet), workspace)
        finally:
            await self._remove(workspace)

    async def _remove(self, workspace: str) -> None:
        """To the end, even if the build is cancelled once more meanwhile: a client that leaves in the middle of its
        context is noticed by its broken upload and by its hang-up.
        """
        removal = asyncio.ensure_future(self._worker.run("build.remove", {"paths": [workspace]}))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)
        await asyncio.shield(removal)

    async def _build(self, options: BuildOptions, context_fd: int, progress: Progress, workspace: str) -> str:
        pieces: list[str] = []
        context = f"{workspace}/context"
        await self._worker.run(
            "build.context", {"directory": context, "dockerfile": options.dockerfile}, [context_fd],
            lambda message: pieces.append(message["dockerfile"]),
        )
        source = dockerfile.parse("".join(pieces).encode("latin-1"), options.dockerfile)
        plan = _labelled(grammar.plan(source), options.labels)
        fd = os.open(context, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            resources = Resources(self._store, self._worker, self._runner, self.cache, workspace, fd)
            state = await _Build(options, plan, resources, progress).run()
        finally:
            os.close(fd)
        return self._publish(state, options, progress)

    def _publish(self, state: State, options: BuildOptions, progress: Progress) -> str:
        if not state.image_id:
            raise InvalidArgument("No image was generated. Is your Dockerfile empty?")
        try:
            image_id = self._store.get(state.image_id).id
        except NotFound:
            image_id = self._store.register(state.image, state.layers).id
        names = [self._store.tag(image_id, name) for name in options.tags]
        progress.done(image_id, names)
        return image_id


class _Build:
    """One build: its stages and what they have made."""

    def __init__(self, options: BuildOptions, plan: Plan, resources: Resources, progress: Progress) -> None:
        self._options = options
        self._plan = plan
        self._resources = resources
        self._progress = progress
        self._platform = host_platform()
        self._arguments = Arguments(options.build_args, _platform_arguments(self._platform))
        self._made: dict[int, State] = {}

    async def run(self) -> State:
        target = self._target()
        self._declare_globals()
        needed = sorted(self._needed(target))
        self._progress.begin(
            len(self._plan.arguments) + sum(1 + len(self._plan.stages[i].instructions) for i in needed)
        )
        for instruction in self._plan.arguments:
            self._progress.step(instruction.node.source)
        for index in needed:
            self._made[index] = await self._stage(index)
        if unused := self._arguments.unused():
            self._progress.line(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed")
        return self._made[target]

    def _target(self) -> int:
        name = self._options.target
        if not name:
            return len(self._plan.stages) - 1
        index = self._stage_index(name, len(self._plan.stages))
        if index is None:
            raise InvalidArgument(f'target stage "{name}" could not be found')
        return index

    def _stage_index(self, name: str, before: int) -> int | None:
        """The stage of that name, or of that number, among the first `before` ones."""
        for index, found in enumerate(self._plan.stages[:before]):
            if found.base.name == name.lower():
                return index
        if name.isascii() and name.isdigit() and len(name) < 6 and int(name) < before:
            return int(name)
        return None

    def _declare_globals(self) -> None:
        for instruction in self._plan.arguments:
            for name, default in instruction.pairs:
                with self._located(instruction):
                    value = None if default is None else self._global_word(default)
                    self._arguments.declare_global(self._global_word(name), value)

    def _global_word(self, word: str) -> str:
        return expand(word, self._arguments.globals(), Rules(escape=self._plan.escape))

    @contextmanager
    def _located(self, instruction: Instruction) -> Iterator[None]:
        """Say in which line the error is."""
        try:
            yield
        except DockerfileError:
            raise
        except InvalidArgument as error:
            raise DockerfileError(self._plan.name, instruction.node.line, str(error)) from error

    # which stages are needed

    def _needed(self, target: int) -> set[int]:
        """The stages that the target is made of, itself included."""
        needed: set[int] = set()
        todo = [target]
        while todo:
            index = todo.pop()
            if index not in needed:
                needed.add(index)
                todo += self._uses(index)
        return needed

    def _uses(self, index: int) -> Iterator[int]:
        used = self._plan.stages[index]
        base = self._base_stage(index)
        if base is not None:
            yield base
        for instruction in (*used.instructions, *self._triggers(used.base, base)):
            if isinstance(instruction, Copy) and instruction.origin is not None:
                origin = self._stage_index(instruction.origin, index)
                if origin is not None:
                    yield origin

    def _base_stage(self, index: int) -> int | None:
        """A FROM that names an earlier stage; a number is an image's name there."""
        base = self._plan.stages[index].base
        with self._located(base):
            name = self._global_word(base.image).lower()
        for earlier in range(index):
            if self._plan.stages[earlier].base.name == name:
                return earlier
        return None

    def _triggers(self, base: From, stage_index: int | None) -> list[Instruction]:
        """What the base image will have done (errors are reported when it is done)."""
        try:
            if stage_index is not None:
                texts = [it.trigger for it in self._plan.stages[stage_index].instructions if isinstance(it, OnBuild)]
            else:
                config = self._resources.store.resolve(self._global_word(base.image)).config.config
                texts = (config.on_build if config else None) or []
            return [grammar.parse_trigger(text, base.image) for text in texts]
        except SampanError:
            return []

    # one stage

    async def _stage(self, index: int) -> State:
        made = self._plan.stages[index]
        self._arguments.enter_stage()
        self._progress.step(made.base.node.source)
        with self._located(made.base):
            state, triggers = self._begin(index)
        self._progress.image(state.image_id)
        stepping = Stepping(
            self._options, self._resources, self._arguments, state, self._progress,
            lambda name: self._origin(name, index),
        )
        await self._run_triggers(stepping, triggers, made.base)
        for instruction in made.instructions:
            self._progress.step(instruction.node.source)
            await self._step(stepping, instruction, self._plan.escape)
        return stepping.state

    async def _step(self, stepping: Stepping, instruction: Instruction, escape: str) -> None:
        with self._located(instruction):
            prepared = stepping.prepare(instruction, escape)
        await prepared()
        self._progress.image(stepping.state.image_id)

    async def _run_triggers(self, stepping: Stepping, triggers: list[str], base: From) -> None:
        if triggers:
            self._progress.line(f"# Executing {len(triggers)} build trigger{'s' * (len(triggers) > 1)}")
        for trigger in triggers:
            await self._step(stepping, grammar.parse_trigger(trigger, f"ONBUILD of {base.image}"), "\\")

    def _begin(self, index: int) -> tuple[State, list[str]]:
        base = self._plan.stages[index].base
        check_platform(self._global_word(base.platform or ""), self._platform)
        name = self._global_word(base.image)
        if not name:
            raise InvalidArgument(f"base name ({base.image}) should not be blank")
        earlier = self._base_stage(index)
        if earlier is not None:
            made = self._made[earlier]
            return stage.begin(made.image, made.layers, made.image_id)
        if name == "scratch":
            return stage.begin(stage.scratch(self._platform), [], "")
        try:
            image = self._resources.store.resolve(name)
        except NotFound as error:
            place = f"{self._plan.name}:{base.node.line}"
            raise NotFound(f"{error}, which {place} builds FROM; `import` or `load` it first") from error
        return stage.begin(image.config, list(image.layers), image.id)

    def _origin(self, name: str, index: int) -> list[str]:
        """The layers of `--from`: an earlier stage by name or number, else an image."""
        store = self._resources.store
        found = self._stage_index(name, index)
        if found is not None:
            return store.lower_dirs(self._made[found].layers)
        if name.isascii() and name.isdigit():
            reason = "refers to current build stage" if int(name[:9]) == index else "index out of bounds"
            raise InvalidArgument(f"invalid from flag value {name}: {reason}")
        try:
            return store.lower_dirs(store.resolve(name))
        except SampanError as error:
            raise type(error)(f"invalid from flag value {name}: {error}") from error


def _platform_arguments(host: str) -> dict[str, str]:
    system, architecture = host.split("/")
    values = {"PLATFORM": host, "OS": system, "ARCH": architecture, "VARIANT": ""}
    return {side + name: value for side in ("TARGET", "BUILD") for name, value in values.items()}


def _labelled(plan: Plan, labels: dict[str, str]) -> Plan:
    """`--label`: as if the last stage ended with a LABEL instruction."""
    if not labels:
        return plan
    pairs = tuple(sorted(labels.items()))
    text = "LABEL " + " ".join(f"{name}={value}" for name, value in pairs)
    last = plan.stages[-1]
    label = Label(Node("LABEL", (), text, text, last.base.node.line, last.base.node.line), pairs=pairs, literal=True)
    return replace(plan, stages=(*plan.stages[:-1], Stage(last.base, (*last.instructions, label))))
