"""What each instruction's arguments mean: `Node`s of a Dockerfile become `Instruction`s and stages.

Every error names the file, the line and what was expected; the words are Docker's where it has any.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable

from sampan.build import dockerfile, words
from sampan.build.dockerfile import Dockerfile, DockerfileError, Heredoc, Node, heredoc_mark
from sampan.build.duration import parse_duration
from sampan.build.flags import BOOLEAN, LIST, TEXT, Flags
from sampan.build.instruction import (
    Arg,
    Cmd,
    CommandLine,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Plan,
    Run,
    Shell,
    Stage,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from sampan.errors import InvalidArgument
from sampan.oci.image import HealthConfig

_STAGE_NAME = re.compile(r"[a-z][a-z0-9._-]*")
_RESERVED_NAMES = ("scratch", "context")
_RUN_FLAGS = {"mount": LIST, "network": TEXT, "security": TEXT, "device": LIST}
_COPY_FLAGS = {"from": TEXT, "chown": TEXT, "chmod": TEXT, "link": BOOLEAN, "parents": BOOLEAN, "exclude": LIST}
_ADD_FLAGS = {
    "chown": TEXT, "chmod": TEXT, "link": BOOLEAN, "checksum": TEXT, "keep-git-dir": BOOLEAN, "unpack": BOOLEAN,
    "exclude": LIST,
}
_HEALTH_FLAGS = {"interval": TEXT, "timeout": TEXT, "start-period": TEXT, "start-interval": TEXT, "retries": TEXT}


def plan(source: Dockerfile) -> Plan:
    """Check every instruction and sort them into stages. Raises DockerfileError."""
    arguments: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for node in source.nodes:
        instruction = parse(node, source.name, source.escape)
        if isinstance(instruction, From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            arguments.append(instruction)
        else:
            raise DockerfileError(
                source.name, node.line, f"no build stage in current context: FROM must come before {node.keyword}"
            )
    if not stages:
        raise DockerfileError(source.name, source.nodes[-1].end_line, "no build stage: a FROM instruction is missing")
    _check_names(source.name, [base for base, _ in stages])
    return Plan(
        source.name, source.escape, tuple(arguments),
        tuple(Stage(base, tuple(instructions)) for base, instructions in stages),
    )


def _check_names(file: str, bases: Iterable[From]) -> None:
    taken: set[str] = set()
    for base in bases:
        if base.name is not None and base.name in taken:
            raise DockerfileError(file, base.node.line, f'duplicate name "{base.name}" for a build stage')
        taken.add(base.name or "")


def parse(node: Node, file: str, escape: str = "\\") -> Instruction:
    """One instruction. Raises DockerfileError."""
    parser = _PARSERS.get(node.keyword)
    if parser is None:
        written = (node.source.split() or [""])[0]
        near = difflib.get_close_matches(node.keyword, _PARSERS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise DockerfileError(file, node.line, f"unknown instruction: {written[:60]}{hint}")
    try:
        return parser(_Reading(node, file, escape))
    except DockerfileError:
        raise
    except InvalidArgument as error:
        raise DockerfileError(file, node.line, str(error)) from error


def parse_trigger(trigger: str, file: str) -> Instruction:
    """An ONBUILD trigger as it stands in an image's config: one instruction, never FROM, MAINTAINER or ONBUILD."""
    source = dockerfile.parse(trigger.encode(errors="surrogateescape"), file)
    if len(source.nodes) != 1:
        raise InvalidArgument(f"an ONBUILD trigger of {file} is not a single instruction")
    _check_trigger(source.nodes[0].keyword)
    return parse(source.nodes[0], file)


class _Reading:
    """One node while its arguments are read."""

    def __init__(self, node: Node, file: str, escape: str) -> None:
        self.node = node
        self.file = file
        self.keyword = node.keyword
        self.escape = escape
        self.text = node.arguments

    def flags(self, known: dict[str, str]) -> Flags:
        return Flags(self.node.flags, known)

    def one(self) -> str:
        self.flags({})
        if not self.text:
            raise InvalidArgument(f"{self.keyword} requires exactly one argument")
        return self.text

    def words(self) -> list[str]:
        """The JSON form or words between blanks."""
        listed = words.json_form(self.text)
        found = words.split_blanks(self.text) if listed is None else listed
        if not found:
            raise InvalidArgument(f"{self.keyword} requires at least one argument")
        return found

    def pairs(self) -> tuple[tuple[str, str], ...]:
        self.flags({})
        pairs = words.name_values(self.text, self.escape, self.keyword)
        if not pairs:
            raise InvalidArgument(f"{self.keyword} requires at least one argument")
        if any(not name for name, _ in pairs):
            raise InvalidArgument(f"{self.keyword} names can not be blank")
        return tuple(pairs)


def _from(reading: _Reading) -> From:
    flags = reading.flags({"platform": TEXT})
    parts = words.split_blanks(reading.text)
    if len(parts) not in (1, 3) or (len(parts) == 3 and parts[1].lower() != "as"):
        raise InvalidArgument("FROM requires either one argument, or three: FROM image AS name")
    name = parts[2].lower() if len(parts) == 3 else None
    if name is not None and (not _STAGE_NAME.fullmatch(name) or name in _RESERVED_NAMES):
        raise InvalidArgument(
            f'invalid name for build stage: "{parts[2]}", name can\'t start with a number or contain symbols'
        )
    return From(reading.node, image=parts[0], platform=flags.text("platform"), name=name)


def _arg(reading: _Reading) -> Arg:
    reading.flags({})
    pairs: list[tuple[str, str | None]] = []
    for word in words.quoted_words(reading.text, reading.escape):
        name, equals, value = word.partition("=")
        if not name:
            raise InvalidArgument("ARG names can not be blank")
        pairs.append((name, value if equals else None))
    if not pairs:
        raise InvalidArgument("ARG requires at least one argument")
    return Arg(reading.node, pairs=tuple(pairs))


def _env(reading: _Reading) -> Env:
    return Env(reading.node, pairs=reading.pairs())


def _label(reading: _Reading) -> Label:
    return Label(reading.node, pairs=reading.pairs())


def _maintainer(reading: _Reading) -> Maintainer:
    return Maintainer(reading.node, author=reading.one())


def _command(reading: _Reading, empty: bool) -> tuple[tuple[str, ...], bool]:
    listed = words.json_form(reading.text)
    if (listed is None and not reading.text) or (listed == [] and not empty):
        raise InvalidArgument(f"{reading.keyword} requires at least one argument")
    return (tuple(listed), True) if listed is not None else ((reading.text,), False)


def _run(reading: _Reading) -> Run:
    flags = reading.flags(_RUN_FLAGS)
    for name in ("mount", "device"):
        if name in flags:
            raise InvalidArgument(f"RUN --{name} is not supported yet")
    if flags.text("security") not in (None, "sandbox"):
        raise InvalidArgument("RUN --security=insecure is not supported: build steps never run privileged")
    network = flags.text("network") or "default"
    if network not in ("default", "none", "host"):
        raise InvalidArgument(f'invalid network mode "{network}": default, none or host was expected')
    arguments, form = _command(reading, empty=False)
    return Run(
        reading.node, arguments=arguments, exec=form, heredocs=reading.node.heredocs, network=network
    )


def _cmd(kind: type[Cmd] | type[Entrypoint]) -> Callable[[_Reading], CommandLine]:
    def read(reading: _Reading) -> CommandLine:
        reading.flags({})
        arguments, form = _command(reading, empty=True)
        return kind(reading.node, arguments=arguments, exec=form)

    return read


def _shell(reading: _Reading) -> Shell:
    reading.flags({})
    listed = words.json_form(reading.text)
    if listed is None:
        raise InvalidArgument('SHELL requires the arguments to be in JSON form, as in SHELL ["/bin/sh", "-c"]')
    if not listed:
        raise InvalidArgument("SHELL requires at least one argument")
    return Shell(reading.node, arguments=tuple(listed))


def _copy(reading: _Reading) -> Copy:
    flags = reading.flags(_ADD_FLAGS if reading.keyword == "ADD" else _COPY_FLAGS)
    for name in ("parents", "keep-git-dir"):
        if flags.flag(name):
            raise InvalidArgument(f"{reading.keyword} --{name} is not supported yet")
    found = reading.words()
    if len(found) < 2:
        raise InvalidArgument(
            f"{reading.keyword} requires at least two arguments, but only one was provided. "
            "Destination could not be determined"
        )
    *given, destination = found
    sources, contents = _sources(reading, given, destination)
    return Copy(
        reading.node, sources=sources, contents=contents, destination=destination, origin=flags.text("from"),
        chown=flags.text("chown"), chmod=flags.text("chmod"), link=flags.flag("link"), exclude=flags.all("exclude"),
        unpack=reading.keyword == "ADD" and ("unpack" not in flags or flags.flag("unpack")),
        checksum=flags.text("checksum"),
    )


def _sources(
    reading: _Reading, given: list[str], destination: str
) -> tuple[tuple[str, ...], tuple[Heredoc, ...]]:
    heredocs = {heredoc.name: heredoc for heredoc in reading.node.heredocs}
    if not heredocs:
        return tuple(given), ()
    if heredoc_mark(destination) is not None:
        raise InvalidArgument(f"{reading.keyword} cannot accept a heredoc as a destination")
    paths: list[str] = []
    contents: list[Heredoc] = []
    for word in given:
        mark = heredoc_mark(word)
        if mark is not None and mark.name in heredocs:
            contents.append(heredocs[mark.name])
        else:
            paths.append(word)
    return tuple(paths), tuple(contents)


def _workdir(reading: _Reading) -> Workdir:
    return Workdir(reading.node, path=reading.one())


def _user(reading: _Reading) -> User:
    return User(reading.node, user=reading.one())


def _volume(reading: _Reading) -> Volume:
    reading.flags({})
    paths = reading.words()
    if any(not path.strip() for path in paths):
        raise InvalidArgument("VOLUME specified can not be an empty string")
    return Volume(reading.node, paths=tuple(paths))


def _expose(reading: _Reading) -> Expose:
    reading.flags({})
    ports = words.split_blanks(reading.text)
    if not ports:
        raise InvalidArgument("EXPOSE requires at least one argument")
    return Expose(reading.node, ports=tuple(ports))


def _stop_signal(reading: _Reading) -> StopSignal:
    return StopSignal(reading.node, signal=reading.one())


def _healthcheck(reading: _Reading) -> Healthcheck:
    flags = reading.flags(_HEALTH_FLAGS)
    kind, *rest = words.split_blanks(reading.text, 1) or [""]
    if not kind:
        raise InvalidArgument("HEALTHCHECK requires at least one argument: CMD or NONE")
    if kind.upper() == "NONE":
        if rest:
            raise InvalidArgument("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(reading.node, health=HealthConfig(test=["NONE"]))
    if kind.upper() != "CMD":
        raise InvalidArgument(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    listed = words.json_form(rest[0]) if rest else []
    if listed == []:
        raise InvalidArgument("Missing command after HEALTHCHECK CMD")
    test = ["CMD-SHELL", rest[0]] if listed is None else ["CMD", *listed]
    health = HealthConfig(
        test=test, interval=_interval(flags, "interval"), timeout=_interval(flags, "timeout"),
        start_period=_interval(flags, "start-period"), start_interval=_interval(flags, "start-interval"),
        retries=_retries(flags.text("retries")),
    )
    return Healthcheck(reading.node, health=health)


def _interval(flags: Flags, name: str) -> int | None:
    """Nanoseconds; 0 and absent are None: the engine's default."""
    text = flags.text(name)
    if text is None:
        return None
    nanoseconds = parse_duration(text)
    if nanoseconds < 0:
        raise InvalidArgument(f'Interval "{name}" cannot be negative')
    if 0 < nanoseconds < 1_000_000:
        raise InvalidArgument(f'Interval "{name}" cannot be less than 1ms')
    return nanoseconds or None


def _retries(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.lstrip("-").isdigit() or len(text) > 9:
        raise InvalidArgument(f"--retries must be a number, not {text[:40]!r}")
    if int(text) < 0:
        raise InvalidArgument(f"--retries cannot be negative ({text})")
    return int(text) or None


def _check_trigger(keyword: str) -> None:
    if keyword == "ONBUILD":
        raise InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if keyword in ("FROM", "MAINTAINER"):
        raise InvalidArgument(f"{keyword} isn't allowed as an ONBUILD trigger")


def _onbuild(reading: _Reading) -> OnBuild:
    reading.flags({})
    if not reading.text:
        raise InvalidArgument("ONBUILD requires at least one argument")
    keyword, flags, arguments = dockerfile.split_line(reading.text)
    _check_trigger(keyword)
    node = reading.node
    inner = Node(keyword, flags, arguments, reading.text, node.line, node.end_line, node.heredocs)
    parse(inner, reading.file, reading.escape)
    trigger = reading.text
    for heredoc in node.heredocs:
        trigger += f"\n{heredoc.content}{heredoc.name}"
    return OnBuild(reading.node, trigger=trigger)


_PARSERS: dict[str, Callable[[_Reading], Instruction]] = {
    "ADD": _copy, "ARG": _arg, "CMD": _cmd(Cmd), "COPY": _copy, "ENTRYPOINT": _cmd(Entrypoint), "ENV": _env,
    "EXPOSE": _expose, "FROM": _from, "HEALTHCHECK": _healthcheck, "LABEL": _label, "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild, "RUN": _run, "SHELL": _shell, "STOPSIGNAL": _stop_signal, "USER": _user, "VOLUME": _volume,
    "WORKDIR": _workdir,
}
