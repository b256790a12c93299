"""The instructions that only change an image's config. Pure: an instruction in, the history's words out."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping
from typing import Any

from sampan.build import pathname
from sampan.build.expansion import Rules, expand, expand_words
from sampan.build.instruction import (
    Cmd,
    CommandLine,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Shell,
    StopSignal,
    User,
    Volume,
)
from sampan.errors import InvalidArgument
from sampan.oci.image import ContainerConfig, HealthConfig, ImageConfig

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ["/bin/sh", "-c"]

_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(.*))?")
_PROTOCOLS = ("tcp", "udp", "sctp")


class Words:
    """Expands the words of one instruction."""

    def __init__(self, variables: Mapping[str, str], escape: str = "\\") -> None:
        self._variables = variables
        self._rules = Rules(escape=escape)

    def one(self, word: str) -> str:
        return expand(word, self._variables, self._rules)

    def many(self, text: str) -> list[str]:
        return expand_words(text, self._variables, self._rules)

    def heredoc(self, content: str) -> str:
        return expand(content, self._variables, Rules(ignore_quotes=True))


def settings(image: ImageConfig) -> ContainerConfig:
    """The image's run config, made when it has none."""
    if image.config is None:
        image.config = ContainerConfig()
    return image.config


def environment(config: ContainerConfig) -> dict[str, str]:
    """Env as a mapping."""
    return {name: value for name, _, value in (entry.partition("=") for entry in config.env or [])}


def set_default_path(config: ContainerConfig) -> None:
    if "PATH" not in environment(config):
        config.env = [*(config.env or []), f"PATH={DEFAULT_PATH}"]


def shell_of(config: ContainerConfig) -> list[str]:
    return config.shell or DEFAULT_SHELL


def command_line(config: ContainerConfig, command: CommandLine) -> list[str]:
    """The exec form as it is, the shell form behind SHELL."""
    return list(command.arguments) if command.exec else [*shell_of(config), *command.arguments]


def go_quoted(words: list[str]) -> str:
    """A list as Go's `%q` prints it, for the history."""
    return "[" + " ".join(_go_quoted(word) for word in words) + "]"


def _go_quoted(word: str) -> str:
    return '"' + "".join(_GO_ESCAPES.get(char, char) if char.isprintable() else _go_escape(char) for char in word) + '"'


_GO_ESCAPES = {'"': '\\"', "\\": "\\\\"}
_GO_CONTROL = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def _go_escape(char: str) -> str:
    if char in _GO_CONTROL:
        return _GO_CONTROL[char]
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def apply(image: ImageConfig, instruction: Instruction, words: Words) -> str:
    """Carry out a metadata instruction on `image`; the text for the history. Raises InvalidArgument.

    KeyError if the instruction is none of those: RUN, COPY, ADD, WORKDIR and ARG are carried out elsewhere.
    """
    return _APPLY[type(instruction)](image, instruction, words)


def _env(image: ImageConfig, instruction: Env, words: Words) -> str:
    config = settings(image)
    text = "ENV"
    pairs = [(words.one(name), words.one(value)) for name, value in instruction.pairs]
    for name, value in pairs:
        if not name or "=" in name:
            raise InvalidArgument(f"ENV names can not be blank or hold a '=': \"{name}\"")
        entry = f"{name}={value}"
        env = list(config.env or [])
        place = next((i for i, old in enumerate(env) if old.partition("=")[0] == name), None)
        if place is None:
            env.append(entry)
        else:
            env[place] = entry
        config.env = env
        text += " " + entry
    return text


def _label(image: ImageConfig, instruction: Label, words: Words) -> str:
    config = settings(image)
    pairs = list(instruction.pairs)
    if not instruction.literal:
        pairs = [(words.one(name), words.one(value)) for name, value in pairs]
    if any(not name for name, _ in pairs):
        raise InvalidArgument("LABEL names can not be blank")
    config.labels = {**(config.labels or {}), **dict(pairs)}
    return "LABEL " + " ".join(f"{name}={value}" for name, value in pairs)


def _maintainer(image: ImageConfig, instruction: Maintainer, words: Words) -> str:
    image.author = instruction.author
    return f"MAINTAINER {instruction.author}"


def _cmd(image: ImageConfig, instruction: Cmd, words: Words) -> str:
    config = settings(image)
    config.cmd = command_line(config, instruction)
    return f"CMD {go_quoted(config.cmd)}"


def _entrypoint(image: ImageConfig, instruction: Entrypoint, words: Words) -> str:
    config = settings(image)
    config.entrypoint = command_line(config, instruction)
    return f"ENTRYPOINT {go_quoted(config.entrypoint)}"


def _shell(image: ImageConfig, instruction: Shell, words: Words) -> str:
    settings(image).shell = list(instruction.arguments)
    return f"SHELL [{' '.join(instruction.arguments)}]"


def _user(image: ImageConfig, instruction: User, words: Words) -> str:
    user = words.one(instruction.user)  # it may come out empty: root
    settings(image).user = user
    return f"USER {user}"


def _volume(image: ImageConfig, instruction: Volume, words: Words) -> str:
    config = settings(image)
    paths = [words.one(path) for path in instruction.paths]
    for path in paths:
        if not path:
            raise InvalidArgument("VOLUME specified can not be an empty string")
        if not path.startswith("/"):
            raise InvalidArgument(f"invalid mount path: '{path}' mount path must be absolute")
        if pathname.clean(path) == "/":
            raise InvalidArgument("invalid volume specification: '/': destination can't be '/'")
    config.volumes = {**(config.volumes or {}), **{path: {} for path in paths}}
    return f"VOLUME [{' '.join(paths)}]"


def _expose(image: ImageConfig, instruction: Expose, words: Words) -> str:
    config = settings(image)
    ports = [port for text in sorted(instruction.ports) for port in words.many(text)]
    exposed = dict(config.exposed_ports or {})
    for port in ports:
        exposed |= {number: {} for number in _ports(port)}
    config.exposed_ports = exposed
    return "EXPOSE " + " ".join(ports)


def _ports(text: str) -> list[str]:
    """`80`, `8000-8010/udp` as `80/tcp`, …"""
    match = _PORT.fullmatch(text)
    first = int(match[1]) if match else 0
    last = int(match[2]) if match and match[2] else first
    if match is None or not 0 < first <= last <= 65535:
        raise InvalidArgument(f"invalid containerPort: {text}: a port or a range of ports from 1 to 65535 was expected")
    protocol = (match[3] or "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {match[3]}: tcp, udp or sctp was expected")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _stop_signal(image: ImageConfig, instruction: StopSignal, words: Words) -> str:
    name = words.one(instruction.signal)
    if not _is_signal(name):
        raise InvalidArgument(f"invalid signal: {name}")
    settings(image).stop_signal = name
    return f"STOPSIGNAL {name}"


def _is_signal(text: str) -> bool:
    """A number, or a name with or without SIG; also RTMIN+1 to RTMIN+15 and RTMAX-14 to RTMAX-1."""
    if text.isascii() and text.isdigit():
        return len(text) <= 2 and 0 < int(text) <= signal.SIGRTMAX
    name = text.upper().removeprefix("SIG")
    real_time = re.fullmatch(r"RTMIN\+([1-9]|1[0-5])|RTMAX-([1-9]|1[0-4])", name)
    return real_time is not None or f"SIG{name}" in signal.Signals.__members__


def _healthcheck(image: ImageConfig, instruction: Healthcheck, words: Words) -> str:
    settings(image).healthcheck = instruction.health
    return f"HEALTHCHECK {_go_health(instruction.health)}"


def _go_health(health: HealthConfig) -> str:
    """The struct as Go's `%q` prints it, which is what Docker's history shows."""
    intervals = (health.interval, health.timeout, health.start_period, health.start_interval)
    quoted = " ".join(f'"{_go_duration(nanoseconds or 0)}"' for nanoseconds in intervals)
    return f"&{{{go_quoted(health.test or [])} {quoted} '\\x{health.retries or 0:02x}'}}"


def _go_duration(nanoseconds: int) -> str:
    """As Go's Duration.String: "1h0m0s", "1.5s", "20ms"."""
    for unit, size in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
        if 0 < nanoseconds < size * 1000:
            return f"{_decimal(nanoseconds, size)}{unit}"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 10**9)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _decimal(number: int, size: int) -> str:
    whole, fraction = divmod(number, size)
    digits = str(fraction).zfill(len(str(size)) - 1).rstrip("0")
    return f"{whole}.{digits}" if fraction else str(whole)


def _onbuild(image: ImageConfig, instruction: OnBuild, words: Words) -> str:
    config = settings(image)
    config.on_build = [*(config.on_build or []), instruction.trigger]
    return f"ONBUILD {instruction.trigger}"


_APPLY: dict[type[Instruction], Callable[[ImageConfig, Any, Words], str]] = {
    Cmd: _cmd, Entrypoint: _entrypoint, Env: _env, Expose: _expose, Healthcheck: _healthcheck, Label: _label,
    Maintainer: _maintainer, OnBuild: _onbuild, Shell: _shell, StopSignal: _stop_signal, User: _user, Volume: _volume,
}
