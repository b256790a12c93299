"""sampan volume ls."""

from __future__ import annotations

from collections.abc import Callable

from sampan.cli.command import Command, Invocation
from sampan.cli.filters import FILTER, to_query
from sampan.cli.flags import Option
from sampan.cli.formats import LIST_FORMAT
from sampan.cli.listing import Listing
from sampan.cli.units import decimal_size

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

HEADERS = {
    "Availability": "AVAILABILITY", "Group": "GROUP", "Status": "STATUS",
    "Driver": "DRIVER", "Label": "", "Labels": "LABELS", "Links": "LINKS", "Mountpoint": "MOUNTPOINT",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE", "Size": "SIZE",
}
VOLUMES = Listing("*formatter.volumeContext", HEADERS, r"{{.Driver}}\t{{.Name}}", unlisted=("Label",))
OPTIONS = (FILTER, LIST_FORMAT, Option("-q", "--quiet", help="Only display volume names"))


def volume_fields(item: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    """The fields of one volume."""
    labels = item.get("Labels") or {}
    usage = item.get("UsageData")
    return {
        "Availability": lambda: "N/A",
        "Driver": lambda: item["Driver"],
        "Group": lambda: "N/A",
        "Label": lambda name="": labels.get(name, ""),
        "Labels": lambda: ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "Links": lambda: str(usage["RefCount"]) if usage else "N/A",
        "Mountpoint": lambda: item["Mountpoint"],
        "Name": lambda: item["Name"],
        "Scope": lambda: item.get("Scope") or "local",
        "Status": lambda: "N/A",
        "Size": lambda: decimal_size(usage["Size"]) if usage else "N/A",
    }


def run(invocation: Invocation) -> int:
    values = invocation.values
    answer = invocation.engine.get("/volumes", {"filters": to_query(values.texts("filter"))})
    items = sorted(answer.get("Volumes") or [], key=lambda item: item["Name"])
    if values.on("quiet") and not values.text("format"):
        for item in items:
            print(item["Name"])
        return 0
    rows = [VOLUMES.row(volume_fields(item)) for item in items]
    print(VOLUMES.format(values.text("format"), rows), end="")
    return 0


COMMAND = Command("", "List volumes", run, OPTIONS, most=0)
