"""`docker inspect` of a container."""

from __future__ import annotations

from typing import Any

import msgspec

from sampan.engine import files, lifecycle, networking, timestamps
from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.engine.record import Record


def details(ctx: Context, container: Container, running: list[str]) -> dict[str, Any]:
    """`GET /containers/ID/json` without sizes. `State.KilledBy`, `.Cgroups` and `.StartSteps` are Sampan's own."""
    record = container.record
    return {
        "Id": record.id, "Created": timestamps.rfc3339(record.created), "Path": record.path, "Args": record.args,
        "State": state(record) | {"StartSteps": _steps(container)},
        "Image": record.image, **file_paths(ctx, record), "LogPath": log_path(ctx, record),
        "Name": f"/{record.name}", "RestartCount": record.restart_count, "Driver": "overlay2", "Platform": "linux",
        "MountLabel": "", "ProcessLabel": "", "AppArmorProfile": "", "ExecIDs": running or None,
        "HostConfig": host_config(record), "GraphDriver": graph_driver(ctx, record), "Mounts": mounts(record),
        "Config": record.config, "NetworkSettings": network_settings(ctx, record),
    }


def _steps(container: Container) -> list[dict[str, Any]]:
    """What the flight recorder has of the present run's start: name, detail, micros."""
    return [] if container.shim is None else msgspec.to_builtins(container.shim.report.steps)


def state(record: Record) -> dict[str, Any]:
    restarting = record.status == lifecycle.RESTARTING
    return {
        "Status": record.status, "Running": record.status in lifecycle.ALIVE or restarting,
        "Paused": record.status == lifecycle.PAUSED, "Restarting": restarting, "OOMKilled": record.oom_killed,
        "Dead": record.status == lifecycle.DEAD, "Pid": record.pid, "ExitCode": record.exit_code,
        "Error": record.error, "StartedAt": record.started_at, "FinishedAt": record.finished_at,
        "KilledBy": record.killed_by, "Cgroups": record.cgroups,
    }


def host_config(record: Record) -> dict[str, Any]:
    shown = dict(record.host_config)
    if shown["NetworkMode"] == "default":
        shown["NetworkMode"] = "bridge"
    return shown


def file_paths(ctx: Context, record: Record) -> dict[str, str]:
    """With the network of another container, that one's files."""
    mode = networking.mode(record)
    owner = record.id
    if mode.startswith("container:") and (named := mode.partition(":")[2]) in ctx.index:
        owner = ctx.index.find(named).id
    return files.paths(ctx.files_directory(owner))


def log_path(ctx: Context, record: Record) -> str:
    """DATA_ROOT/containers/ID/ID-json.log, "" for a container without a log."""
    if record.host_config["LogConfig"]["Type"] == "none":
        return ""
    return f"{ctx.directory(record.id)}/{record.id}-json.log"


def graph_driver(ctx: Context, record: Record) -> dict[str, Any]:
    directory = ctx.directory(record.id)
    return {"Name": "overlay2", "Data": {
        "LowerDir": ":".join(lower_dirs(ctx, record)), "UpperDir": f"{directory}/upper",
        "WorkDir": f"{directory}/work", "MergedDir": f"/proc/{record.pid}/root" if record.pid else "",
    }}


def lower_dirs(ctx: Context, record: Record) -> list[str]:
    """The image's layers, topmost first."""
    layout = ctx.store.layout
    return [layout.layer_dir(diff_id) for diff_id in reversed(record.layers)] or [str(layout.empty)]


def mounts(record: Record) -> list[dict[str, Any]]:
    found = []
    for point in record.mounts:
        shown: dict[str, Any] = {"Type": point.type}
        if point.type == "volume":
            shown |= {"Name": point.name, "Driver": "local"}
        found.append(shown | {
            "Source": point.source, "Destination": point.destination, "Mode": point.mode, "RW": point.rw,
            "Propagation": point.propagation,
        })
    return found


def networks(ctx: Context, record: Record) -> dict[str, Any]:
    """`NetworkSettings.Networks`."""
    mode = networking.mode(record)
    if mode.startswith("container:"):
        return {}
    asked: dict[str, Any] = next(iter(record.networks.values()), {})
    place = record.endpoint
    return {mode: {
        "IPAMConfig": asked.get("IPAMConfig"), "Links": None, "Aliases": asked.get("Aliases"),
        "MacAddress": place.mac if place else "", "DriverOpts": None, "GwPriority": 0,
        "NetworkID": ctx.networks.id(mode) if record.status in lifecycle.ALIVE else "",
        "EndpointID": place.endpoint_id if place else "", "Gateway": place.gateway if place else "",
        "IPAddress": place.ip if place else "", "IPPrefixLen": place.prefix if place else 0, "IPv6Gateway": "",
        "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": None,
    }}


def network_settings(ctx: Context, record: Record) -> dict[str, Any]:
    place = record.endpoint
    bound: dict[str, Any] = {}
    if record.status in lifecycle.ALIVE:
        bound = dict.fromkeys(record.config.get("ExposedPorts") or ())
    for port in record.ports:
        key = f"{port.container_port}/{port.proto}"
        bound[key] = [*(bound.get(key) or ()), {"HostIp": port.host_ip, "HostPort": str(port.host_port)}]
    return {
        "Bridge": "", "SandboxID": record.id if record.pid else "",
        "SandboxKey": f"/proc/{record.pid}/ns/net" if record.pid else "", "Ports": bound,
        "HairpinMode": False, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None, "EndpointID": place.endpoint_id if place else "",
        "Gateway": place.gateway if place else "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
        "IPAddress": place.ip if place else "", "IPPrefixLen": place.prefix if place else 0, "IPv6Gateway": "",
        "MacAddress": place.mac if place else "", "Networks": networks(ctx, record),
    }

