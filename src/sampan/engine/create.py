"""Making a container: everything that can be wrong is found before anything is made."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sampan.engine import config as settings
from sampan.engine import hostconfig, limits, names, networking, spec
from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.engine.mounts import Mounts
from sampan.engine.record import MountPoint, Record
from sampan.errors import InvalidArgument, NotFound
from sampan.image.store import Image
from sampan.linux.cgroup import cgroupfs


async def create(
    ctx: Context, name: str | None, body: dict[str, Any], internal: bool = False
) -> tuple[Container, list[str]]:
    """The container, and warnings. Raises InvalidArgument, NotFound, Conflict: nothing stays then.

    `internal` ones (build steps) are in no list and have no events.
    """
    said = settings.from_request(body)
    image = ctx.store.resolve(_image_named(said))
    config = settings.merge(said, image.config.config)
    host_config = hostconfig.host_config(body.get("HostConfig"))
    host_config["Runtime"] = ctx.runtimes.name(host_config["Runtime"])
    warnings = limits.check(host_config)
    networks = check_network(host_config, body.get("NetworkingConfig"))
    if host_config["CgroupParent"]:
        cgroupfs.check_path(host_config["CgroupParent"])
    id = secrets.token_hex(32)
    _hostname(ctx, config, host_config, id)
    warnings += spec.check(config, host_config, ctx.facts)
    record = Record(
        id=id, name=names.check(name) if name else names.generate(ctx.index.names), created=time.time_ns(),
        image=image.id, image_name=said["Image"], config=config, host_config=host_config, networks=networks,
        layers=[layer.diff_id for layer in image.layers], internal=internal,
    )
    record.path, record.args = settings.command(config)
    warnings += _ports(record)
    if (said.get("Healthcheck") or {}).get("Test", ["NONE"]) != ["NONE"]:
        warnings.append("Health checks are not supported yet. Healthcheck discarded.")
    ctx.index.reserve(record.name, id)
    mounts = Mounts(ctx.volumes, ctx.index)
    try:
        with _as_argument():
            record.mounts = mounts.collect(config, host_config)
        _make_directory(ctx, id, ctx.store.lower_dirs(image)[0])
        container = Container(record)
        async with container.lock:  # a start waits until its volumes are filled
            ctx.index.add(container)
            ctx.save(container)
            await _fill(ctx, record, image)
    except BaseException:
        _undo(ctx, record, mounts)
        raise
    ctx.publish(container, "create")
    return container, warnings


@contextmanager
def _as_argument() -> Iterator[None]:
    """Another container that the request names and that is not there: not NotFound, because the docker command takes
    a 404 for a missing image, and tries to pull one.
    """
    try:
        yield
    except NotFound as error:
        raise InvalidArgument(str(error)) from error


def _undo(ctx: Context, record: Record, mounts: Mounts) -> None:
    if record.id in ctx.index:
        ctx.index.remove(ctx.index.find(record.id))
        ctx.state.delete("container", record.id)
    ctx.index.release(record.name, record.id)
    ctx.trash.take(Path(ctx.directory(record.id)))
    mounts.undo()


def _image_named(said: dict[str, Any]) -> str:
    name = said.get("Image")
    if not name:
        raise InvalidArgument("no image specified: the request's Image is empty")
    return str(name)


def check_network(host_config: dict[str, Any], asked: Any) -> dict[str, Any]:
    """Which network, by `NetworkMode`, or by the one entry of `EndpointsConfig`. Raises InvalidArgument."""
    mode = host_config["NetworkMode"]
    endpoints = (asked.get("EndpointsConfig") if isinstance(asked, dict) else None) or {}
    if not isinstance(endpoints, dict):
        raise InvalidArgument("invalid NetworkingConfig: EndpointsConfig is not an object")
    if len(endpoints) > 1:
        raise InvalidArgument("a container can be connected to one network only, so far")
    if mode == "default" and endpoints and next(iter(endpoints)) != "default":
        mode = host_config["NetworkMode"] = next(iter(endpoints))
    if mode not in ("default", "bridge", "host", "none") and not mode.startswith("container:"):
        # not NotFound: the docker command takes a 404 here for a missing image, and tries to pull one
        raise InvalidArgument(f"network {mode} not found: there are bridge, host and none, so far")
    if mode == "container:":
        raise InvalidArgument("invalid network mode: container: needs a container's name or id")
    kept = {name: value for name, value in endpoints.items() if isinstance(value, dict)}
    if any((value.get("IPAMConfig") or {}).get("IPv4Address") for value in kept.values()):
        raise InvalidArgument("user specified IP address is supported on user defined networks only")
    return kept


def _hostname(ctx: Context, config: dict[str, Any], host_config: dict[str, Any], id: str) -> None:
    mode = host_config["NetworkMode"]
    if mode.startswith("container:"):
        if config["Hostname"]:
            raise InvalidArgument("conflicting options: hostname and the network mode")
        with _as_argument():
            other = ctx.index.find(mode.partition(":")[2])
        host_config["NetworkMode"] = f"container:{other.id}"
        config["Hostname"], config["Domainname"] = other.record.config["Hostname"], other.record.config["Domainname"]
    elif host_config["UTSMode"] == "host" and config["Hostname"]:
        raise InvalidArgument("conflicting options: hostname and the UTS mode")
    elif not config["Hostname"]:
        on_host = mode == "host" or host_config["UTSMode"] == "host"
        config["Hostname"] = os.uname().nodename if on_host else id[:12]


def _ports(record: Record) -> list[str]:
    """Check the port bindings, show their ports as exposed. Raises InvalidArgument; returns warnings."""
    host_config, mode = record.host_config, record.host_config["NetworkMode"]
    asked = bool(host_config["PortBindings"] or host_config["PublishAllPorts"])
    if asked and mode.startswith("container:"):
        raise InvalidArgument("conflicting options: port publishing and the container type network mode")
    networking.mappings(record)
    host_config["PortBindings"] = {
        "{}/{}".format(*networking.parse_port(port)): bound for port, bound in host_config["PortBindings"].items()
    }
    exposed = record.config.get("ExposedPorts") or {}
    if host_config["PortBindings"] or exposed:
        record.config["ExposedPorts"] = {**exposed, **{port: {} for port in host_config["PortBindings"]}}
    return ["Published ports are discarded when using host network mode"] if asked and mode == "host" else []


def _make_directory(ctx: Context, id: str, top: str) -> None:
    """DATA_ROOT/containers/ID: for root alone, but for `upper`."""
    ctx.berths.take(ctx.directory(id))
    dress_root(f"{ctx.directory(id)}/upper", top)


def dress_root(upper: str, top: str) -> None:
    """The container's "/" looks like its upper directory: it must look like the image's."""
    image_root = os.stat(top)
    if stat.S_IMODE(image_root.st_mode) != 0o755:
        os.chmod(upper, stat.S_IMODE(image_root.st_mode))
    if image_root.st_uid or image_root.st_gid:
        os.chown(upper, image_root.st_uid, image_root.st_gid)


async def _fill(ctx: Context, record: Record, image: Image) -> None:
    """A volume that is empty at its first use gets what the image has in its place, with owners and modes."""
    points: list[MountPoint] = [point for point in record.mounts if point.type == "volume" and point.copy]
    if points:
        await ctx.worker.run("engine.fill_volumes", {
            "lower": ctx.store.lower_dirs(image),
            "volumes": [{"source": point.source, "destination": point.destination} for point in points],
        })

