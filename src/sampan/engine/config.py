"""A container's Config: what the request says over what the image says, by Docker's rules."""

from __future__ import annotations

import posixpath
import re
import signal
from collections.abc import Iterable
from typing import Any

from sampan.engine import networking
from sampan.engine.hostconfig import Config, convert
from sampan.errors import InvalidArgument
from sampan.oci.image import ContainerConfig

_HOSTNAME = re.compile(r"[a-zA-Z0-9_](?:[a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9_])?")
_DEFAULTS: dict[str, Any] = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False,
    "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": None, "Cmd": None, "Image": "", "Volumes": None,
    "WorkingDir": "", "Entrypoint": None, "OnBuild": None, "Labels": {},
}


def from_request(body: dict[str, Any]) -> dict[str, Any]:
    """The Config part of a create request, types checked. Raises InvalidArgument."""
    given = convert(body, Config, "Config")
    said = {name: value for name, value in given.items() if value is not None}
    for name in ("Cmd", "Entrypoint"):
        if isinstance(said.get(name), str):
            said[name] = [said[name]]
    return said


def merge(said: dict[str, Any], image: ContainerConfig | None) -> dict[str, Any]:
    """The Config that is kept. Raises InvalidArgument for a container without a command."""
    base = image or ContainerConfig()
    kept = dict(_DEFAULTS) | said
    kept["User"] = kept["User"] or base.user or ""
    kept["WorkingDir"] = kept["WorkingDir"] or base.working_dir or ""
    kept["Env"] = environment(said.get("Env") or (), base.env or ())
    kept["Labels"] = {**(base.labels or {}), **(said.get("Labels") or {})}
    ports = {**(base.exposed_ports or {}), **(said.get("ExposedPorts") or {})}
    if ports:
        kept["ExposedPorts"] = {_port(port): {} for port in ports}
    volumes = {**(base.volumes or {}), **(said.get("Volumes") or {})}
    kept["Volumes"] = {path: {} for path in volumes} if volumes else None
    if not said.get("Entrypoint"):
        # An entrypoint of one's own, [""] to have none, also drops the image's command.
        if "Entrypoint" not in said or said["Entrypoint"] == []:
            kept["Cmd"] = said.get("Cmd") or base.cmd
            kept["Entrypoint"] = base.entrypoint
    elif said["Entrypoint"] == [""]:
        kept["Entrypoint"] = None
    for name, value in (("StopSignal", base.stop_signal), ("StopTimeout", base.stop_timeout)):
        if not said.get(name) and value:
            kept[name] = value
    _check(kept)
    return kept


def _check(config: dict[str, Any]) -> None:
    if not [*(config["Entrypoint"] or ()), *(config["Cmd"] or ())]:
        raise InvalidArgument("no command specified")
    directory = config["WorkingDir"]
    if directory and not directory.startswith("/"):
        raise InvalidArgument(f"the working directory '{directory}' is invalid, it needs to be an absolute path")
    config["WorkingDir"] = posixpath.normpath(directory) if directory else ""
    for name in (config["Hostname"], config["Domainname"]):
        if name and (len(name) > 63 or not _HOSTNAME.fullmatch(name)):
            raise InvalidArgument(f"invalid hostname format: {name[:100]}")
    if config.get("StopSignal"):
        signal_number(config["StopSignal"])
    texts = [*(config["Entrypoint"] or ()), *(config["Cmd"] or ()), *config["Env"], directory, config["User"]]
    if any("\0" in text for text in texts):
        raise InvalidArgument("a NUL byte cannot be part of a command, a path or the environment")


def environment(said: Iterable[str], image: Iterable[str]) -> list[str]:
    """The image's variables, changed and followed by the request's; a name without "=" takes a variable away.

    Raises InvalidArgument.
    """
    found: dict[str, str | None] = {}
    for entry in (*image, *said):
        name, separator, _ = entry.partition("=")
        if not name:
            raise InvalidArgument(f"invalid environment variable: {entry}")
        found[name] = entry if separator else None
    return [entry for entry in found.values() if entry is not None]


def command(config: dict[str, Any]) -> tuple[str, list[str]]:
    """The program and its arguments."""
    words = [*(config["Entrypoint"] or ()), *(config["Cmd"] or ())]
    return words[0], words[1:]


def signal_number(text: str) -> int:
    """SIGTERM, TERM, 15, RTMIN+3 → the number. Raises InvalidArgument."""
    name = text.strip().upper()
    if name.isdecimal() and len(name) < 4:
        number = int(name)
        if 0 < number < signal.NSIG:
            return number
    match = re.fullmatch(r"(?:SIG)?(RTMIN|RTMAX)(?:([+-])(\d{1,2}))?", name)
    if match is not None:
        base = signal.SIGRTMIN if match[1] == "RTMIN" else signal.SIGRTMAX
        number = base + int(f"{match[2] or '+'}{match[3] or 0}")
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return number
    full = name if name.startswith("SIG") else f"SIG{name}"
    if full in signal.Signals.__members__:
        return int(signal.Signals[full])
    raise InvalidArgument(f"invalid signal: {text[:64]}")


def signal_name(number: int) -> str:
    """15 → "SIGTERM"."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _port(text: str) -> str:
    number, proto = networking.parse_port(text)
    return f"{number}/{proto}"
