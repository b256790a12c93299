"""sampan commit."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.flags import LIST, STRING, Option
from sampan.cli.reference import split_reference

OPTIONS = (
    Option("-a", "--author", kind=STRING, help='Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
    Option("-c", "--change", kind=LIST, help="Apply Dockerfile instruction to the created image"),
    Option("-m", "--message", kind=STRING, help="Commit message"),
    Option("-p", "--pause", default=True, help="Pause container during commit", shown_default="true"),
)


def run(invocation: Invocation) -> int:
    values = invocation.values
    container, *reference = invocation.arguments
    name, tag = split_reference(reference[0]) if reference else ("", "")
    query = {
        "container": container, "repo": name or None, "tag": tag or None, "author": values.text("author") or None,
        "comment": values.text("message") or None, "changes": values.texts("change"),
        "pause": None if values.on("pause") else "0",
    }
    print(invocation.engine.post("/commit", query)["Id"])
    return 0


COMMAND = Command(
    "CONTAINER [REPOSITORY[:TAG]]", "Create a new image from a container's changes", run, OPTIONS, least=1, most=2
)
