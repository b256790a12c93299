"""sampan network ls."""

from __future__ import annotations

from collections.abc import Callable

from sampan.cli.command import Command, Invocation
from sampan.cli.filters import FILTER, to_query
from sampan.cli.flags import Option
from sampan.cli.formats import LIST_FORMAT
from sampan.cli.listing import Listing

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

HEADERS = {
    "CreatedAt": "CREATED AT", "Driver": "DRIVER", "ID": "NETWORK ID", "IPv4": "IPV4", "IPv6": "IPV6",
    "Internal": "INTERNAL", "Label": "", "Labels": "LABELS", "Name": "NAME", "Scope": "SCOPE",
}
NETWORKS = Listing(
    "*network.networkContext", HEADERS, r"{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}", unlisted=("Label",)
)
OPTIONS = (
    FILTER,
    LIST_FORMAT,
    Option("--no-trunc", help="Do not truncate the output"),
    Option("-q", "--quiet", help="Only display network IDs"),
)


def _created(stamp: str) -> str:
    """2026-11-23T18:39:56.002Z as Go prints a time: 2026-11-23 18:39:56.002 +0000 UTC."""
    return stamp[:-1].replace("T", " ") + " +0000 UTC" if stamp.endswith("Z") else stamp


def network_fields(item: dict[str, Any], truncate: bool) -> dict[str, Callable[..., Any]]:
    """The fields of one network."""
    labels = item.get("Labels") or {}
    return {
        "CreatedAt": lambda: _created(item.get("Created") or ""),
        "Driver": lambda: item["Driver"],
        "ID": lambda: item["Id"][:12] if truncate else item["Id"],
        "IPv4": lambda: str(item.get("EnableIPv4", False)).lower(),
        "IPv6": lambda: str(item.get("EnableIPv6", False)).lower(),
        "Internal": lambda: str(item.get("Internal", False)).lower(),
        "Label": lambda name="": labels.get(name, ""),
        "Labels": lambda: ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "Name": lambda: item["Name"],
        "Scope": lambda: item.get("Scope") or "local",
    }


def run(invocation: Invocation) -> int:
    values = invocation.values
    items = invocation.engine.get("/networks", {"filters": to_query(values.texts("filter"))})
    items.sort(key=lambda item: item["Name"])
    truncate = not values.on("no-trunc")
    if values.on("quiet") and not values.text("format"):
        for item in items:
            print(item["Id"][:12] if truncate else item["Id"])
        return 0
    rows = [NETWORKS.row(network_fields(item, truncate)) for item in items]
    print(NETWORKS.format(values.text("format"), rows), end="")
    return 0


COMMAND = Command("", "List networks", run, OPTIONS, most=0)
