"""sampan ps."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.filters import FILTER, to_query
from sampan.cli.flags import INT, Option
from sampan.cli.formats import LIST_FORMAT

OPTIONS = (
    Option("-a", "--all", help="Show all containers (default shows just running)"),
    FILTER,
    LIST_FORMAT,
    Option("-n", "--last", kind=INT, default=-1, help="Show n last created containers (includes all states)",
           shown_default="-1"),
    Option("-l", "--latest", help="Show the latest created container (includes all states)"),
    Option("--no-trunc", help="Don't truncate output"),
    Option("-q", "--quiet", help="Only display container IDs"),
    Option("-s", "--size", help="Display total file sizes"),
)


def run(invocation: Invocation) -> int:
    values = invocation.values
    form = values.text("format")
    last = 1 if values.on("latest") and not values.given("last") else values.number("last")
    query = {
        "all": values.on("all"),
        "limit": last if last > 0 else None,
        "size": values.on("size") or ".Size" in form,
        "filters": to_query(values.texts("filter")),
    }
    items = invocation.engine.get("/containers/json", query)
    if values.on("quiet") and not form:
        for item in items:
            print(item["Id"] if values.on("no-trunc") else item["Id"][:12])
        return 0
    from sampan.cli.container_row import CONTAINERS, CONTAINERS_WITH_SIZE, container_fields

    listing = CONTAINERS_WITH_SIZE if values.on("size") else CONTAINERS
    rows = [listing.row(container_fields(item, not values.on("no-trunc"))) for item in items]
    print(listing.format(form, rows), end="")
    return 0


COMMAND = Command("", "List containers", run, OPTIONS, most=0)
