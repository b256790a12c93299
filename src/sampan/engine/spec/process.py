"""The program of a container, or of an exec in it → an OCI process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sampan.engine.spec import capabilities, ulimits
from sampan.errors import InvalidArgument
from sampan.oci.runtime import ConsoleSize, Process, User

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TERM = "TERM=xterm"


def make(
    config: Mapping[str, Any], host_config: Mapping[str, Any], held: Sequence[str], no_new_privileges: bool
) -> Process:
    """`config` is merged with the image's. Its "user[:group]" travels in `user.username`: the runtime looks it up.

    HOME is set then too. Raises InvalidArgument.
    """
    terminal = bool(config.get("Tty"))
    extra = [f"HOSTNAME={config['Hostname']}"] if config.get("Hostname") else []
    return Process(
        terminal=terminal, console_size=_size(host_config.get("ConsoleSize")) if terminal else None,
        user=_user(str(config.get("User") or ""), host_config),
        args=[*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())],
        env=environment([*extra, *([_TERM] if terminal else [])], config.get("Env") or ()),
        cwd=str(config.get("WorkingDir") or "/"), capabilities=capabilities.sets(held),
        rlimits=ulimits.make(host_config), no_new_privileges=no_new_privileges,
        oom_score_adj=oom_score_adj(host_config),
    )


def make_exec(
    config: Mapping[str, Any], host_config: Mapping[str, Any], wanted: Mapping[str, Any], held: Sequence[str],
    no_new_privileges: bool, size: tuple[int, int] | None = None,
) -> Process:
    """`wanted` is Docker's ExecConfig; what it does not say is as in the container. Raises InvalidArgument."""
    process = make(config, host_config, held, no_new_privileges)
    process.terminal = bool(wanted.get("Tty"))
    process.console_size = _size(size or wanted.get("ConsoleSize")) if process.terminal else None
    process.args = list(wanted["Cmd"])
    base = [entry for entry in process.env if entry != _TERM]
    process.env = environment([*base, *([_TERM] if process.terminal else [])], wanted.get("Env") or ())
    process.cwd = str(wanted.get("WorkingDir") or process.cwd)
    if not process.cwd.startswith("/"):
        raise InvalidArgument(f"the working directory '{process.cwd}' is invalid, it needs to be an absolute path")
    if wanted.get("User"):
        process.user = _user(str(wanted["User"]), host_config)
    return process


def environment(base: Iterable[str], given: Iterable[str]) -> list[str]:
    """`given` over `base`, one entry a name, each where its name first stood; PATH is always there."""
    found: dict[str, str] = {"PATH": f"PATH={DEFAULT_PATH}"}
    for entry in (*base, *given):
        name, separator, _ = entry.partition("=")
        if not name or "\0" in entry:
            raise InvalidArgument(f"invalid environment variable: {entry[:100]!r}")
        if separator:
            found[name] = entry
        else:
            found.pop(name, None)
    return list(found.values())


def _user(text: str, host_config: Mapping[str, Any]) -> User:
    """Docker's words travel to whoever can read the container's files. No user is root, with root's groups."""
    if "\0" in text or "\n" in text or len(text) > 512:
        raise InvalidArgument(f"invalid user: {text[:100]!r}")
    groups = [str(entry) for entry in host_config.get("GroupAdd") or ()]
    return User(username=text or "0", additional_groups=groups)


def oom_score_adj(host_config: Mapping[str, Any]) -> int | None:
    """Raises InvalidArgument outside -1000…1000."""
    value = host_config.get("OomScoreAdj") or 0
    if not -1000 <= value <= 1000:
        raise InvalidArgument(f"Invalid value {value}, range for oom score adj is [-1000, 1000]")
    return value or None


def _size(given: Sequence[int] | None) -> ConsoleSize | None:
    """[rows, columns]; [0, 0] is not said."""
    if not given or not all(0 < value < 1 << 16 for value in given):
        return None
    return ConsoleSize(height=given[0], width=given[1])
