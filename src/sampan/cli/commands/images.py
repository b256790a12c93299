"""sampan images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from sampan.cli.command import Command, Invocation
from sampan.cli.container_row import short_id
from sampan.cli.filters import FILTER, to_query
from sampan.cli.flags import Option
from sampan.cli.formats import LIST_FORMAT
from sampan.cli.listing import Listing
from sampan.cli.moment import created_at
from sampan.cli.reference import split_reference
from sampan.cli.units import ago, decimal_size

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

NONE = "<none>"
HEADERS = {
    "Containers": "CONTAINERS", "CreatedAt": "CREATED AT", "CreatedSince": "CREATED", "Digest": "DIGEST",
    "ID": "IMAGE ID", "Repository": "REPOSITORY", "SharedSize": "SHARED SIZE", "Size": "SIZE", "Tag": "TAG",
    "UniqueSize": "UNIQUE SIZE", "VirtualSize": "VIRTUAL SIZE",
}
COLUMNS = (r"{{.Repository}}\t{{.Tag}}", r"\t{{.Digest}}", r"\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}")
OPTIONS = (
    Option("-a", "--all", help="Show all images (default hides intermediate images)"),
    Option("--digests", help="Show digests"),
    FILTER,
    LIST_FORMAT,
    Option("--no-trunc", help="Don't truncate output"),
    Option("-q", "--quiet", help="Only show image IDs"),
)


def image_lines(item: dict[str, Any], digests: bool) -> Iterator[tuple[str, str, str]]:
    """(repository, tag, digest) for every line an image takes."""
    tags = [tag for tag in item.get("RepoTags") or () if tag != "<none>:<none>"]
    by_name = {split_reference(text)[0]: text.partition("@")[2] for text in item.get("RepoDigests") or ()}
    for text in sorted(tags):
        name, tag = split_reference(text)
        yield name, tag, by_name.get(name, NONE)
    if not tags:
        for name, digest in by_name.items() or ((NONE, NONE),):
            yield name, NONE, digest if digests else NONE


def image_fields(item: dict[str, Any], line: tuple[str, str, str], truncate: bool) -> dict[str, Callable[..., Any]]:
    """The fields of one line."""

    def size(key: str, digits: int = 3) -> str:
        value = item.get(key)
        return "N/A" if value is None or value < 0 else decimal_size(value, digits)

    return {
        "Containers": lambda: "N/A" if item.get("Containers", -1) < 0 else str(item["Containers"]),
        "CreatedAt": lambda: created_at(item["Created"]),
        "CreatedSince": lambda: ago(item["Created"], time.time()) if item["Created"] > 0 else "N/A",
        "Digest": lambda: line[2],
        "ID": lambda: short_id(item["Id"]) if truncate else item["Id"],
        "Repository": lambda: line[0],
        "SharedSize": lambda: size("SharedSize"),
        "Size": lambda: size("Size"),
        "Tag": lambda: line[1],
        "UniqueSize": lambda: size("UniqueSize", 4),
        "VirtualSize": lambda: size("Size", 4),
    }


def run(invocation: Invocation) -> int:
    values = invocation.values
    filters = to_query(values.texts("filter")) or {}
    if invocation.arguments:
        filters["reference"] = [invocation.arguments[0]]
    items = invocation.engine.get("/images/json", {"all": values.on("all"), "filters": filters or None})
    truncate, digests = not values.on("no-trunc"), values.on("digests")
    if values.on("quiet") and not values.text("format"):
        for item in items:
            print(short_id(item["Id"]) if truncate else item["Id"])
        return 0
    first, digest, rest = COLUMNS
    listing = Listing("*formatter.imageContext", HEADERS, first + (digest if digests else "") + rest)
    lines = [
        listing.row(image_fields(item, line, truncate)) for item in items for line in image_lines(item, digests)
    ]
    print(listing.format(values.text("format"), lines), end="")
    return 0


COMMAND = Command("[REPOSITORY[:TAG]]", "List images", run, OPTIONS, most=1)
