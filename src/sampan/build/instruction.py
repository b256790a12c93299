"""The instructions of a Dockerfile as values. Words are still as they were written: nothing is expanded."""

from __future__ import annotations

from dataclasses import dataclass

from sampan.build.dockerfile import Heredoc, Node
from sampan.oci.image import HealthConfig


@dataclass(frozen=True, slots=True)
class Instruction:
    """`node` is what it was made from: keyword, line, the text as it was written."""

    node: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine(Instruction):
    """`exec`: `arguments` is the program and its arguments; else it is one text for the shell."""

    arguments: tuple[str, ...]
    exec: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(CommandLine):
    heredocs: tuple[Heredoc, ...] = ()
    network: str = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(CommandLine):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(CommandLine):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    image: str
    platform: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """A value of None: no default."""

    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    """`literal`: the pairs come from `--label` and are not expanded."""

    pairs: tuple[tuple[str, str], ...]
    literal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    author: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Instruction):
    """COPY and ADD. `origin`: the stage or image of `--from`; `contents`: sources that are heredocs."""

    sources: tuple[str, ...]
    contents: tuple[Heredoc, ...]
    destination: str
    origin: str | None = None
    chown: str | None = None
    chmod: str | None = None
    link: bool = False
    exclude: tuple[str, ...] = ()
    unpack: bool = False
    checksum: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    """`health.test` of CMD in shell form is `["CMD-SHELL", text]`; `["NONE"]` switches off."""

    health: HealthConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBuild(Instruction):
    """`trigger`: the instruction as text, as it goes into the image; its heredocs behind it, line by line."""

    trigger: str


@dataclass(frozen=True, slots=True)
class Stage:
    """FROM and what follows it up to the next."""

    base: From
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole Dockerfile: the ARGs before the first FROM, and the stages. `name` is the file's, for messages."""

    name: str
    escape: str
    arguments: tuple[Arg, ...]
    stages: tuple[Stage, ...]
