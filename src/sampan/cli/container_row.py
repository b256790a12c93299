"""A line of `ps`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

from sampan.cli.listing import Listing
from sampan.cli.moment import created_at
from sampan.cli.units import ago, decimal_size

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

COMMAND_WIDTH = 20
MOUNT_WIDTH = 15
TABLE = r"table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
HEADERS = {
    "Command": "COMMAND", "CreatedAt": "CREATED AT", "ID": "CONTAINER ID", "Image": "IMAGE", "Label": "",
    "Labels": "LABELS",
    "LocalVolumes": "LOCAL VOLUMES", "Mounts": "MOUNTS", "Names": "NAMES", "Networks": "NETWORKS",
    "Platform": "PLATFORM", "Ports": "PORTS", "RunningFor": "CREATED", "Size": "SIZE", "State": "STATE",
    "Status": "STATUS",
}
CONTAINERS = Listing("*formatter.ContainerContext", HEADERS, TABLE.removeprefix("table "), unlisted=("Label",))
CONTAINERS_WITH_SIZE = Listing(
    "*formatter.ContainerContext", HEADERS, TABLE.removeprefix("table ") + r"\t{{.Size}}", unlisted=("Label",)
)


def ellipsis(text: str, width: int) -> str:
    """At most `width` characters, the last one … when something was cut."""
    return text if len(text) <= width else text[: width - 1] + "…"


def short_id(text: str) -> str:
    """The first 12 digits, without `sha256:`."""
    return text.partition(":")[2][:12] if ":" in text else text[:12]


def container_fields(item: dict[str, Any], truncate: bool) -> dict[str, Callable[..., Any]]:
    """The fields of one container as the API lists it."""
    labels = item.get("Labels") or {}
    names = [name.removeprefix("/") for name in item.get("Names") or ()]
    if truncate:
        names = [name for name in names if "/" not in name] or names

    def command() -> str:
        text = item.get("Command") or ""
        return json.dumps(ellipsis(text, COMMAND_WIDTH) if truncate else text, ensure_ascii=False)

    def size() -> str:
        writable = decimal_size(item.get("SizeRw") or 0, 3)
        total = item.get("SizeRootFs") or 0
        return f"{writable} (virtual {decimal_size(total, 3)})" if total > 0 else writable

    def mounts() -> str:
        found = [mount.get("Name") or mount.get("Source") or "" for mount in item.get("Mounts") or ()]
        return ",".join(ellipsis(name, MOUNT_WIDTH) if truncate else name for name in found)

    return {
        "Command": command,
        "CreatedAt": lambda: created_at(item.get("Created") or 0),
        "ID": lambda: short_id(item["Id"]) if truncate else item["Id"],
        "Image": lambda: _image(item, truncate),
        "Label": lambda name="": labels.get(name, ""),
        "Labels": lambda: ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "LocalVolumes": lambda: str(sum(mount.get("Driver") == "local" for mount in item.get("Mounts") or ())),
        "Mounts": mounts,
        "Names": lambda: ",".join(names),
        "Networks": lambda: ",".join(sorted((item.get("NetworkSettings") or {}).get("Networks") or {})),
        "Platform": lambda: item.get("Platform"),
        "Ports": lambda: format_ports(item.get("Ports") or []),
        "RunningFor": lambda: ago(item.get("Created") or 0, time.time()),
        "Size": size,
        "State": lambda: item.get("State") or "",
        "Status": lambda: item.get("Status") or "",
    }


def _image(item: dict[str, Any], truncate: bool) -> str:
    image = item.get("Image") or "<no image>"
    if not truncate:
        return str(image)
    if re.fullmatch(r"sha256:[0-9a-f]{64}", image) or image == item.get("ImageID"):
        return short_id(image)
    return str(image).partition("@")[0]


def format_ports(ports: list[dict[str, Any]]) -> str:
    """`9000-9002/tcp, 0.0.0.0:8080->80/tcp`: runs of ports that are the same in- and outside first, then the others."""
    runs: dict[tuple[str, str], list[list[int]]] = {}
    others: list[str] = []
    for port in sorted(ports, key=_port_order):
        private, address, protocol = port["PrivatePort"], port.get("IP") or "", port.get("Type") or "tcp"
        if address and port.get("PublicPort") != private:
            others.append(f"{_shown(address)}:{port.get('PublicPort')}->{private}/{protocol}")
            continue
        held = runs.setdefault((address, protocol), [])
        if held and held[-1][1] == private - 1:
            held[-1][1] = private
        elif not held or held[-1][1] != private:
            held.append([private, private])
    groups = [_format_run(*key, *run) for key, held in sorted(runs.items()) for run in held]
    return ", ".join(groups + others)


def _port_order(port: dict[str, Any]) -> tuple[int, str, int, str]:
    return (port["PrivatePort"], port.get("IP") or "", port.get("PublicPort") or 0, port.get("Type") or "")


def _shown(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _format_run(address: str, protocol: str, first: int, last: int) -> str:
    inside = f"{first}-{last}" if last > first else str(first)
    return f"{_shown(address)}:{inside}->{inside}/{protocol}" if address else f"{inside}/{protocol}"
