"""The steps of one stage: each looks into the cache first, and makes its image anew if it is not there."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sampan.build import metadata, pathname, stage
from sampan.build.arguments import Arguments
from sampan.build.cache import Cache, CachedStep, key_of
from sampan.build.dockerfile import heredoc_mark
from sampan.build.instruction import Arg, Cmd, Copy, Entrypoint, Instruction, Run, Workdir
from sampan.build.jobs import CopyRequest
from sampan.build.metadata import Words
from sampan.build.options import BuildOptions
from sampan.build.progress import Progress, StepFailed
from sampan.build.stage import State
from sampan.build.step import RunStep, StepFile, StepRunner
from sampan.errors import InvalidArgument, Unsupported
from sampan.image.layout import LayerRef
from sampan.image.store import Store
from sampan.jobs.client import ForkServer
from sampan.oci import image as oci

_REMOTE = re.compile(r"(?:https?|ftp|git|ssh)://|git@")
_MODE = re.compile(r"[0-7]{1,4}")
_SCRIPTS = "/dev/pipes"

Prepared = Callable[[], Awaitable[None]]


@dataclass
class Resources:
    """What steps are made with. `workspace`: the build's own directory; `context`: fd of the context's directory."""

    store: Store
    worker: ForkServer
    runner: StepRunner
    cache: Cache
    workspace: str
    context: int
    _places: int = field(default=0)

    def place(self) -> str:
        """A path in the workspace where nothing is yet."""
        self._places += 1
        return f"{self.workspace}/{self._places}"


class Stepping:
    """Carries out instructions on `state`. `origin` gives the directories of a `--from`."""

    def __init__(
        self, options: BuildOptions, resources: Resources, arguments: Arguments, state: State, progress: Progress,
        origin: Callable[[str], list[str]],
    ) -> None:
        self._options = options
        self._resources = resources
        self._arguments = arguments
        self._progress = progress
        self._origin = origin
        self.state = state

    def prepare(self, instruction: Instruction, escape: str) -> Prepared:
        """Expand and check an instruction; what is returned carries it out.

        Raises InvalidArgument for what is wrong with the instruction itself.
        """
        environment = metadata.environment(self.state.config)
        visible = self._arguments.visible(environment)
        words = Words(self.state.variables(visible), escape)
        match instruction:
            case Run():
                return self._prepare_run(instruction, visible)
            case Copy():
                return self._prepare_copy(instruction, words)
            case Workdir():
                return self._prepare_workdir(instruction, words)
            case Arg():
                return self._prepare_arg(instruction, words)
            case _:
                return self._prepare_metadata(instruction, words)

    # instructions that only change the config

    def _prepare_metadata(self, instruction: Instruction, words: Words) -> Prepared:
        draft = self.state.draft()
        text = metadata.apply(draft, instruction, words)
        if isinstance(instruction, Entrypoint) and not self.state.command_set:
            metadata.settings(draft).cmd = None  # the base image's command is not meant for another entry point
        if isinstance(instruction, Cmd):
            self.state.command_set = True
        return lambda: self._metadata_step(draft, " " + text, instruction)

    def _prepare_arg(self, instruction: Arg, words: Words) -> Prepared:
        parts: list[str] = []
        for name, default in instruction.pairs:
            name, value = words.one(name), None if default is None else words.one(default)
            if not name:
                raise InvalidArgument("ARG names can not be blank")
            self._arguments.declare(name, value)
            parts.append(name if value is None else f"{name}={value}")
        return lambda: self._metadata_step(self.state.draft(), f" ARG {' '.join(parts)}", instruction)

    async def _metadata_step(self, draft: oci.ImageConfig, text: str, instruction: Instruction) -> None:
        created_by = stage.comment(draft, text)
        key = key_of(self.state.parent, created_by, draft.config, draft.author)
        if not self._cached(key):
            self._finish(key, draft, None, created_by, instruction)

    # WORKDIR

    def _prepare_workdir(self, instruction: Workdir, words: Words) -> Prepared:
        path = words.one(instruction.path)
        if not path:
            raise InvalidArgument("WORKDIR requires exactly one argument: it is empty after expansion")
        draft = self.state.draft()
        config = metadata.settings(draft)
        current = "" if path.startswith("/") else config.working_dir or ""
        config.working_dir = pathname.join("/", current, path)
        return lambda: self._workdir(draft, config.working_dir or "/", instruction)

    async def _workdir(self, draft: oci.ImageConfig, path: str, instruction: Instruction) -> None:
        created_by = stage.comment(draft, f"WORKDIR {path}")
        key = key_of(self.state.parent, created_by, draft.config)
        if self._cached(key):
            return
        layer = await self._job("build.workdir", {
            "directory": self._resources.place(), "lower": self._lower(), "path": path,
        })
        self._finish(key, draft, layer, created_by, instruction)

    # COPY and ADD

    def _prepare_copy(self, instruction: Copy, words: Words) -> Prepared:
        keyword = instruction.node.keyword
        sources = [words.one(source) for source in instruction.sources]
        for source in sources:
            if keyword == "ADD" and _REMOTE.match(source):
                raise Unsupported(f"ADD failed: {source} is remote, which is not supported yet: fetch it in a RUN step")
        if instruction.checksum is not None:
            raise InvalidArgument("ADD --checksum is for remote sources only")
        destination = words.one(instruction.destination)
        if not destination:
            raise InvalidArgument(f"{keyword} requires a destination: it is empty after expansion")
        mode = None if instruction.chmod is None else words.one(instruction.chmod)
        if mode is not None and not _MODE.fullmatch(mode):
            raise InvalidArgument(f"invalid value for --chmod: {mode}: an octal number like 755 was expected")
        request = CopyRequest(
            data_root=self._resources.store.layout.root, keyword=keyword, words=sources,
            destination=pathname.below(self.state.config.working_dir or "/", destination), written=destination,
            contents=[
                (it.name, words.heredoc(it.text) if it.expand else it.text) for it in instruction.contents
            ],
            origin=None if instruction.origin is None else self._origin(instruction.origin),
            exclude=[words.one(pattern) for pattern in instruction.exclude],
            chown=None if instruction.chown is None else words.one(instruction.chown),
            mode=None if mode is None else int(mode, 8), unpack=instruction.unpack, link=instruction.link,
        )
        return lambda: self._copy(request, instruction)

    async def _copy(self, request: CopyRequest, instruction: Instruction) -> None:
        fds = [self._resources.context] if request.origin is None else []
        hashed = await self._resources.worker.run("build.hash", msgspec.to_builtins(request), fds)
        chown = f"--chown={request.chown} " if request.chown is not None else ""
        written = f"{request.keyword} {chown}{hashed['label']} in {request.written} "
        key = key_of(
            self.state.parent, request.keyword, hashed["key"], request.destination, request.chown, request.mode,
            request.exclude, request.unpack, request.link, request.keeps_owners,
        )
        if self._cached(key):
            return
        request.lower, request.directory = self._lower(), self._resources.place()
        layer = await self._job("build.copy", msgspec.to_builtins(request), fds)
        draft = self.state.draft()
        self._finish(key, draft, layer, stage.comment(draft, written), instruction)

    # RUN

    def _prepare_run(self, instruction: Run, visible: dict[str, str]) -> Prepared:
        command, script = _command(self.state, instruction)
        counted = self._arguments.counted(visible)
        shown = [f"|{len(counted)}", *counted, *command] if counted else command
        key = key_of(self.state.parent, "RUN", shown, script, instruction.network)
        return lambda: self._run(key, command, shown, script, visible, instruction)

    async def _run(
        self, key: str, command: list[str], shown: list[str], script: str | None, visible: dict[str, str],
        instruction: Run,
    ) -> None:
        if self._cached(key):
            return
        config = self.state.config
        step = RunStep(
            id=secrets.token_hex(32), lower_dirs=await self._furnished(), config=stage.clone(config), args=command,
            env=[*(config.env or []), *(f"{name}={value}" for name, value in visible.items())],
            user=config.user or "", workdir=config.working_dir or "/",
            network=instruction.network if instruction.network != "default" else self._options.network or "default",
            extra_hosts=self._options.extra_hosts, limits=self._options.limits, files=self._files(script, command),
        )
        self._progress.running(step.id)
        layer = await self._run_container(step)
        self._finish(key, self.state.draft(), layer, " ".join(shown), instruction)

    async def _furnished(self) -> list[str]:
        """The image so far with the mount points that it lacks."""
        lower = self._lower()
        args = {"directory": self._resources.place(), "lower": lower}
        made = (await self._resources.worker.run("build.mountpoints", args))["layer"]
        return lower if made is None else [made, *lower]

    async def _run_container(self, step: RunStep) -> LayerRef | None:
        output = self._progress.output()
        result = await self._resources.runner.run(step, output.write)
        output.close()
        try:
            if result.exit_code != 0:
                line = " ".join(step.args)
                raise StepFailed(f"The command '{line}' returned a non-zero code: {result.exit_code}", result.exit_code)
            layer = await self._job("build.commit", {"directory": self._resources.place(), "upper": result.upper_dir})
        except BaseException:
            await self._resources.worker.run("build.remove", {"paths": [result.upper_dir]})
            raise
        if self._options.rm or self._options.force_rm:
            self._progress.removed(step.id)
        return layer

    def _files(self, script: str | None, command: list[str]) -> tuple[StepFile, ...]:
        """A heredoc that begins with `#!` is a program of its own."""
        if script is None:
            return ()
        path = self._resources.place()
        with open(path, "x", opener=_executable) as file:
            file.write(script)
        return (StepFile(path, command[0]),)

    # all steps

    def _lower(self) -> list[str]:
        return self._resources.store.lower_dirs(self.state.layers)

    async def _job(self, name: str, args: dict[str, Any], fds: list[int] | None = None) -> LayerRef | None:
        args["data_root"] = self._resources.store.layout.root
        answer = await self._resources.worker.run(name, args, fds or [])
        return msgspec.convert(answer["layer"], LayerRef | None)

    def _cached(self, key: str) -> bool:
        step = None if self._options.no_cache else self._resources.cache.get(key)
        if step is None:
            return False
        self._progress.cached()
        self._become(step.config, step.layers, step.image_id)
        return True

    def _finish(
        self, key: str, draft: oci.ImageConfig, layer: LayerRef | None, created_by: str, instruction: Instruction
    ) -> None:
        parent = self.state.image_id
        config, layers, image_id = stage.finished(draft, self.state.layers, layer, created_by)
        now = time.time()
        self._resources.cache.put(CachedStep(
            key=key, parent=parent, instruction=instruction.node.source, image_id=image_id, config=config,
            layers=layers, size=layer.size if layer else 0, created=now, used=now,
        ))
        self._become(config, layers, image_id)

    def _become(self, config: oci.ImageConfig, layers: list[LayerRef], image_id: str) -> None:
        self.state.image, self.state.layers, self.state.image_id = config, layers, image_id


def _executable(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o755)


def _command(state: State, instruction: Run) -> tuple[list[str], str | None]:
    """The command line of a RUN, and the text of the file that has to be there for it, if any."""
    heredocs = instruction.heredocs
    if not heredocs:
        return metadata.command_line(state.config, instruction), None
    text = instruction.arguments[0]
    if heredoc_mark(text) is not None:
        script = heredocs[0].text
        if script.startswith("#!"):
            return [f"{_SCRIPTS}/{heredocs[0].name.replace('/', '_')}"], script
        return [*metadata.shell_of(state.config), script], None
    for heredoc in heredocs:  # the shell reads them
        text += f"\n{heredoc.content}{heredoc.name}"
    return [*metadata.shell_of(state.config), text], None
