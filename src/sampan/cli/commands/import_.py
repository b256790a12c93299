"""sampan import."""

from __future__ import annotations

import os
from collections.abc import Iterator

from sampan.cli.command import Command, Invocation
from sampan.cli.failure import CommandFailed
from sampan.cli.flags import LIST, STRING, Option
from sampan.cli.reference import split_reference
from sampan.cli.transfer import open_input, read_blocks

OPTIONS = (
    Option("-c", "--change", kind=LIST, help="Apply Dockerfile instruction to the created image"),
    Option("-m", "--message", kind=STRING, help="Set commit message for imported image"),
    Option("--platform", kind=STRING, help="Set platform if server is multi-platform capable"),
)


def run(invocation: Invocation) -> int:
    values, engine = invocation.values, invocation.engine
    source, *reference = invocation.arguments
    is_url = source.startswith(("http://", "https://", "ftp://"))
    name, tag = split_reference(reference[0]) if reference else ("", "")
    query = {
        "fromSrc": source if is_url else "-", "repo": name or None, "tag": tag or None,
        "message": values.text("message") or None, "changes": values.texts("change"),
        "platform": values.text("platform").lower() or None,
    }
    fd = -1 if is_url else open_input(source)
    try:
        body: Iterator[bytes] | None = None if is_url else read_blocks(fd)
        for message in engine.messages(engine.open("POST", "/images/create", query, body)):
            if "error" in message:
                raise CommandFailed(str(message["error"]))
            if message.get("status") and "progressDetail" not in message:
                print(message["status"], flush=True)
    finally:
        if fd > 0:
            os.close(fd)
    return 0


COMMAND = Command(
    "file|URL|- [REPOSITORY[:TAG]]", "Import the contents from a tarball to create a filesystem image", run, OPTIONS,
    least=1, most=2,
)
