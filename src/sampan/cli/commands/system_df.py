"""sampan system df."""

from __future__ import annotations

import time
from collections.abc import Callable

from sampan.cli.command import Command, Invocation
from sampan.cli.commands.images import image_fields, image_lines
from sampan.cli.commands.volume_ls import volume_fields
from sampan.cli.container_row import container_fields, short_id
from sampan.cli.flags import Option
from sampan.cli.formats import LIST_FORMAT
from sampan.cli.listing import Listing
from sampan.cli.moment import seconds
from sampan.cli.units import ago, decimal_size

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

OPTIONS = (LIST_FORMAT, Option("-v", "--verbose", help="Show detailed information on space usage"))
SUMMARY = Listing(
    "*formatter.diskUsageContext",
    {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"},
    r"{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
)
IMAGES = Listing(
    "*formatter.imageContext",
    {"Repository": "REPOSITORY", "Tag": "TAG", "ID": "IMAGE ID", "CreatedSince": "CREATED", "Size": "SIZE",
     "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE", "Containers": "CONTAINERS"},
    r"{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
)
CONTAINERS = Listing(
    "*formatter.ContainerContext",
    {"ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "LocalVolumes": "LOCAL VOLUMES", "Size": "SIZE",
     "RunningFor": "CREATED", "Status": "STATUS", "Names": "NAMES"},
    r"{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
)
VOLUMES = Listing(
    "*formatter.volumeContext", {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"},
    r"{{.Name}}\t{{.Links}}\t{{.Size}}",
)
BUILD_CACHE = Listing(
    "*formatter.buildCacheContext",
    {"ID": "CACHE ID", "CacheType": "CACHE TYPE", "Size": "SIZE", "CreatedSince": "CREATED",
     "LastUsedSince": "LAST USED", "UsageCount": "USAGE", "Shared": "SHARED"},
    r"{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
)


def summary(usage: dict[str, Any]) -> list[dict[str, Callable[..., Any]]]:
    """The four lines. Sizes in bytes are the API's."""
    images, containers = usage.get("Images") or [], usage.get("Containers") or []
    volumes, cache = usage.get("Volumes") or [], usage.get("BuildCache") or []
    layers = usage.get("LayersSize") or 0
    used = sum(
        image["Size"] - max(image.get("SharedSize", 0), 0) for image in images if image.get("Containers", 0) > 0
    )
    stopped = [item for item in containers if item["State"] not in ("running", "paused", "restarting")]
    volume_data = [volume.get("UsageData") or {"RefCount": 0, "Size": 0} for volume in volumes]
    private_cache = [record for record in cache if not record.get("Shared")]
    return [
        _line("Images", len(images), sum(image.get("Containers", 0) > 0 for image in images), layers, layers - used,
              True),
        _line("Containers", len(containers), len(containers) - len(stopped), _sum(containers, "SizeRw"),
              _sum(stopped, "SizeRw"), True),
        _line("Local Volumes", len(volumes), sum(data["RefCount"] > 0 for data in volume_data),
              sum(max(data["Size"], 0) for data in volume_data),
              sum(max(data["Size"], 0) for data in volume_data if data["RefCount"] == 0), True),
        _line("Build Cache", len(cache), sum(bool(record.get("InUse")) for record in cache),
              _sum(private_cache, "Size"),
              _sum([record for record in private_cache if not record.get("InUse")], "Size"), False),
    ]


def _sum(items: list[dict[str, Any]], key: str) -> int:
    return sum(item.get(key) or 0 for item in items)


def _line(
    kind: str, count: int, active: int, size: int, reclaimable: int, percent: bool
) -> dict[str, Callable[..., Any]]:
    share = f" ({reclaimable * 100 // size}%)" if percent and size > 0 else ""
    return {
        "Type": lambda: kind, "TotalCount": lambda: str(count), "Active": lambda: str(active),
        "Size": lambda: decimal_size(size), "Reclaimable": lambda: decimal_size(reclaimable) + share,
    }


def _cache_fields(record: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    now = time.time()
    return {
        "ID": lambda: short_id(record["ID"]) + ("*" if record.get("InUse") else ""),
        "CacheType": lambda: record.get("Type") or "",
        "Size": lambda: decimal_size(record.get("Size") or 0, 3),
        "CreatedSince": lambda: ago(seconds(record.get("CreatedAt") or ""), now),
        "LastUsedSince": lambda: ago(seconds(record["LastUsedAt"]), now) if record.get("LastUsedAt") else "",
        "UsageCount": lambda: str(record.get("UsageCount") or 0),
        "Shared": lambda: str(bool(record.get("Shared"))).lower(),
    }


def _print_verbose(usage: dict[str, Any]) -> None:
    images = [
        IMAGES.row({**image_fields(item, line, True), "UniqueSize": _unique(item)})
        for item in usage.get("Images") or () for line in image_lines(item, False)
    ]
    containers = [
        CONTAINERS.row(container_fields({**item, "SizeRootFs": 0}, True)) for item in usage.get("Containers") or ()
    ]
    volumes = [VOLUMES.row(volume_fields(item)) for item in usage.get("Volumes") or ()]
    cache = usage.get("BuildCache") or []
    blocks = []
    for title, listing, rows in (
        ("Images space usage:", IMAGES, images), ("Containers space usage:", CONTAINERS, containers),
        ("Local Volumes space usage:", VOLUMES, volumes),
        (f"Build cache usage: {decimal_size(_sum(cache, 'Size'))}", BUILD_CACHE,
         [BUILD_CACHE.row(_cache_fields(record)) for record in cache]),
    ):
        blocks.append(f"{title}\n\n{listing.format('', rows)}")
    print("\n".join(blocks), end="")


def _unique(item: dict[str, Any]) -> Callable[[], str]:
    return lambda: decimal_size(item["Size"] - max(item.get("SharedSize", 0), 0))


def run(invocation: Invocation) -> int:
    usage = invocation.engine.get("/system/df")
    if invocation.values.on("verbose"):
        _print_verbose(usage)
    else:
        rows = [SUMMARY.row(fields) for fields in summary(usage)]
        print(SUMMARY.format(invocation.values.text("format"), rows), end="")
    return 0


COMMAND = Command("", "Show disk usage", run, OPTIONS, most=0)
