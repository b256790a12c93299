"""From a container's record to what its shim is asked to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from sampan.engine import hostconfig, inspection, mounts, networking, spec
from sampan.engine.context import Context
from sampan.engine.record import Record
from sampan.engine.spec import portable
from sampan.oci.runtime import Seccomp
from sampan.runtime.rootfs import Overlay
from sampan.shim.messages import ExecRequest, Log, Runtime, StartRequest

_JOINED = {"pid": "PidMode", "ipc": "IpcMode"}
_LOG_SIZE, _LOG_FILES = 10 << 20, 3  # bounded by default: a container that prints for ever does not fill the disk
_FILES = {"/etc/resolv.conf": "ResolvConfPath", "/etc/hostname": "HostnamePath", "/etc/hosts": "HostsPath"}


@contextmanager
def joined(ctx: Context, record: Record) -> Iterator[dict[str, str]]:
    """The namespaces of other containers that this one joins: kind → a path that is right while the block lasts.

    A descriptor of ours keeps each; the path leads through it, so a pid used again cannot mislead the shim.
    """
    opened: dict[str, int] = {}
    try:
        for kind, member in _JOINED.items():
            mode = record.host_config[member]
            if mode.startswith("container:"):
                other = networking.peer(ctx.index, mode, f"{kind.upper()} namespace")
                opened[kind] = networking.open_namespace(other, kind)
        yield {kind: f"/proc/{os.getpid()}/fd/{fd}" for kind, fd in opened.items()}
    finally:
        for fd in opened.values():
            os.close(fd)


def make(
    ctx: Context, record: Record, namespaces: dict[str, str], lower: list[str]
) -> tuple[StartRequest, list[str]]:
    """The start of a container, and warnings. `lower`: its layers if they are not the record's.

    Raises InvalidArgument, Unsupported.
    """
    mounts.prepare(record.mounts)
    directory = ctx.directory(record.id)
    paths = inspection.file_paths(ctx, record)
    made = spec.make(
        record.config, record.host_config, ctx.facts, cgroups_path=ctx.cgroup_path(record), points=record.mounts,
        files={place: paths[name] for place, name in _FILES.items()}, joined=namespaces,
    )
    program = ctx.runtimes.program(record.host_config["Runtime"])
    record.runtime = program or ""
    with_init = bool(record.host_config.get("Init"))
    if program is not None:
        portable.adapt(made, ctx.facts.features, with_init)
    request = StartRequest(
        id=record.id, directory=ctx.run_directory(record.id), spec=made.spec,
        rootfs=Overlay(lower or inspection.lower_dirs(ctx, record), f"{directory}/upper", f"{directory}/work"),
        cgroup_host=msgspec.to_builtins(ctx.cgroups), log=_log(ctx, record),
        seccomp=_compiled(ctx, None if program else made.policy),
        open_stdin=bool(record.config.get("OpenStdin")), stdin_once=bool(record.config.get("StdinOnce")),
        init=with_init and program is None, runtime=Runtime(program) if program else None,
    )
    return request, made.warnings


def make_exec(
    ctx: Context, record: Record, id: str, wanted: dict[str, Any], tty: bool, size: tuple[int, int] | None
) -> ExecRequest:
    """One more process in a running container. Raises InvalidArgument."""
    made = spec.make_exec(record.config, record.host_config, wanted | {"Tty": tty}, ctx.facts, size)
    return ExecRequest(id, made.process, _compiled(ctx, None if record.runtime else made.policy))


def _compiled(ctx: Context, policy: Seccomp | None) -> str:
    return "" if policy is None else ctx.seccomp.path(policy)


def _log(ctx: Context, record: Record) -> Log | None:
    path = inspection.log_path(ctx, record)
    if not path:
        return None
    options = record.host_config["LogConfig"]["Config"]
    size = hostconfig.size(options.get("max-size", str(_LOG_SIZE)), "max-size")
    files = int(options.get("max-file", 1 if "max-size" in options else _LOG_FILES))
    return Log(path, size, files)
