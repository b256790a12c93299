"""sampan history."""

from __future__ import annotations

import time
from collections.abc import Callable

from sampan.cli.command import Command, Invocation
from sampan.cli.container_row import ellipsis, short_id
from sampan.cli.flags import Option
from sampan.cli.formats import LIST_FORMAT
from sampan.cli.listing import Listing
from sampan.cli.moment import created_at, rfc3339
from sampan.cli.units import ago, decimal_size

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

WIDTH = 45
HEADERS = {
    "Comment": "COMMENT", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "CreatedSince": "CREATED",
    "ID": "IMAGE", "Size": "SIZE",
}
HUMAN = r"{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
PRECISE = r"{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
OPTIONS = (
    LIST_FORMAT,
    Option("-H", "--human", default=True, help="Print sizes and dates in human readable format", shown_default="true"),
    Option("--no-trunc", help="Don't truncate output"),
    Option("-q", "--quiet", help="Only show image IDs"),
)


def history_fields(item: dict[str, Any], human: bool, truncate: bool) -> dict[str, Callable[..., Any]]:
    """The fields of one step."""

    def created_by() -> str:
        text = " ".join((item.get("CreatedBy") or "").replace("\t", " ").split("\n"))
        return ellipsis(text, WIDTH) if truncate else text

    return {
        "Comment": lambda: item.get("Comment") or "",
        "CreatedAt": lambda: rfc3339(item.get("Created") or 0),
        "CreatedBy": created_by,
        "CreatedSince": lambda: (
            ago(item["Created"], time.time()) if human and item.get("Created") else created_at(item.get("Created") or 0)
        ),
        "ID": lambda: short_id(item["Id"]) if truncate else item["Id"],
        "Size": lambda: decimal_size(item.get("Size") or 0, 3) if human else str(item.get("Size") or 0),
    }


def run(invocation: Invocation) -> int:
    values = invocation.values
    items = invocation.engine.get(f"/images/{invocation.arguments[0]}/history")
    truncate, human = not values.on("no-trunc"), values.on("human")
    if values.on("quiet") and not values.text("format"):
        for item in items:
            print(short_id(item["Id"]) if truncate else item["Id"])
        return 0
    listing = Listing("*image.historyContext", HEADERS, HUMAN if human else PRECISE)
    rows = [listing.row(history_fields(item, human, truncate)) for item in items]
    print(listing.format(values.text("format"), rows), end="")
    return 0


COMMAND = Command("IMAGE", "Show the history of an image", run, OPTIONS, least=1, most=1)
