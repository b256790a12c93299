"""`docker commit`: a container's changes become a layer, and its settings an image's."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from sampan.engine import config as settings
from sampan.engine import host, image_job, pause, timestamps
from sampan.engine.changes import apply_changes
from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.engine.images import joined
from sampan.errors import NotFound
from sampan.image.layout import LayerRef
from sampan.oci import image as oci

_OF_AN_IMAGE = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "OnBuild",
    "Healthcheck", "Shell",
)


async def commit(
    ctx: Context, container: Container, repository: str, tag: str, message: str, author: str, freeze: bool,
    changes: list[str], config: dict[str, Any],
) -> str:
    """The new image's id. `config`: settings that replace the container's; `changes`: Dockerfile instructions.

    Raises InvalidArgument, NotFound. With `freeze` a running container stands still while it is read.
    """
    record = container.record
    name = joined(repository, tag) if repository else ""
    said = settings.from_request(config)
    new = oci.ImageConfig(
        created=timestamps.rfc3339(time.time_ns()), author=author or None, comment=message or None,
        architecture=host.architecture(), os="linux",
        config=_image_settings(record.config | {key: value for key, value in said.items() if value}),
    )
    new = apply_changes(new, changes)
    async with AsyncExitStack() as stack:
        stack.enter_context(ctx.store.hold())
        if freeze and container.record.status == "running":
            await pause.pause(ctx, container)
            stack.push_async_callback(pause.thaw_for_signal, ctx, container)
        upper = f"{ctx.directory(container.id)}/upper"
        layer = await image_job.run(
            ctx.worker, ctx.store.layout, "image.commit_layer", {"upper": upper, "move": False}
        )
        ref = msgspec.convert(layer, LayerRef)
        lower = [_layer(ctx, diff_id) for diff_id in record.layers]
        new.history = [*_history(ctx, record.image), oci.History(
            created=new.created, created_by=" ".join([record.path, *record.args]), author=author or None,
            comment=message or None,
        )]
        image = ctx.store.register(new, [*lower, ref], [name] if name else [], record.image)
    ctx.publish(container, "commit", comment=message, imageID=image.id, imageRef=name)
    return image.id


def _image_settings(config: dict[str, Any]) -> oci.ContainerConfig:
    return msgspec.convert(
        {name: config[name] for name in _OF_AN_IMAGE if config.get(name) is not None}, oci.ContainerConfig
    )


def _layer(ctx: Context, diff_id: str) -> LayerRef:
    found = ctx.store.layout.layer(diff_id)
    if found is None:
        raise NotFound(f"layer {diff_id} is not in the store")
    return found


def _history(ctx: Context, image_id: str) -> list[oci.History]:
    try:
        return list(ctx.store.get(image_id).config.history or [])
    except NotFound:  # removed by force since
        return []
