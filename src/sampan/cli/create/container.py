"""Asking the engine for the container: pull policy, cidfile, warnings."""

from __future__ import annotations

import json
import os
import sys

from sampan.cli.each import warn
from sampan.cli.engine import Engine
from sampan.cli.failure import CommandFailed, EngineError
from sampan.cli.flags import Values
from sampan.cli.reference import split_reference

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

PULL_POLICIES = ("always", "missing", "never")


def create_container(engine: Engine, values: Values, body: dict[str, Any]) -> str:
    """The id of the new container. Raises CommandFailed (125), EngineError."""
    policy = values.text("pull")
    if policy not in PULL_POLICIES:
        raise CommandFailed(f'invalid pull option: \'{policy}\': must be one of "always", "missing" or "never"', 125)
    image = body["Image"]
    cidfile = _open_cidfile(values.text("cidfile"))
    try:
        if policy == "always":
            pull(engine, image, values.text("platform"), values.on("quiet"))
        query = {"name": values.text("name") or None, "platform": values.text("platform") or None}
        try:
            created = engine.post("/containers/create", query, body)
        except EngineError as error:
            if error.status != 404 or policy != "missing" or not _is_missing_image(engine, image):
                raise
            print(f"Unable to find image '{_familiar(image)}' locally", file=sys.stderr)
            pull(engine, image, values.text("platform"), values.on("quiet"))
            created = engine.post("/containers/create", query, body)
    except BaseException:
        if cidfile is not None:
            os.close(cidfile)
            os.unlink(values.text("cidfile"))
        raise
    warn(created.get("Warnings"))
    identifier = str(created["Id"])
    if cidfile is not None:
        with open(cidfile, "w", encoding="ascii") as file:
            file.write(identifier)
    return identifier


def _open_cidfile(path: str) -> int | None:
    """A new file, before anything is made: it must not be that the container exists and its id cannot be written."""
    if not path:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise CommandFailed(
            f"container ID file found, make sure the other container isn't running or delete {path}", 125
        ) from None
    except OSError as error:
        raise CommandFailed(f"failed to create the container ID file {path}: {error.strerror}", 125) from None


def _is_missing_image(engine: Engine, image: str) -> bool:
    """A 404 of create may also be about a network or a volume's container."""
    try:
        engine.get(f"/images/{image}/json")
    except EngineError as error:
        return error.status == 404
    return False


def _familiar(image: str) -> str:
    name, tag = split_reference(image)
    return image if tag else f"{name}:latest"


def pull(engine: Engine, image: str, platform: str = "", quiet: bool = False) -> None:
    """POST /images/create, progress on stderr. Raises CommandFailed, EngineError."""
    name, tag = split_reference(image)
    query = {"fromImage": name, "tag": tag or "latest", "platform": platform or None}
    for line in engine.open("POST", "/images/create", query).lines():
        message = json.loads(line)
        if "error" in message:
            raise CommandFailed(str(message["error"]), 125)
        if not quiet and "progressDetail" not in message:
            prefix = f"{message['id']}: " if message.get("id") else ""
            print(f"{prefix}{message.get('status', '')}", file=sys.stderr)
