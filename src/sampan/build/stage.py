"""A stage's image while it is made: the config, the layers, and how a finished step changes them. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from sampan.build import metadata
from sampan.image.layout import LayerRef
from sampan.oci import image as oci

NO_OPERATION = "#(nop) "
_Config = TypeVar("_Config", oci.ImageConfig, oci.ContainerConfig)


@dataclass
class State:
    """`image_id` is "" for `FROM scratch` before its first step. `command_set`: CMD was seen in this stage."""

    image: oci.ImageConfig
    layers: list[LayerRef] = field(default_factory=list)
    image_id: str = ""
    command_set: bool = False

    @property
    def config(self) -> oci.ContainerConfig:
        return metadata.settings(self.image)

    @property
    def parent(self) -> str:
        """What stands for this image in the key of the next step."""
        return self.image_id or f"scratch {self.image.os}/{self.image.architecture}"

    def variables(self, arguments: dict[str, str]) -> dict[str, str]:
        """What an instruction's words may use: arguments, and ENV over them."""
        return {**arguments, **metadata.environment(self.config)}

    def draft(self) -> oci.ImageConfig:
        """A copy of the image's config, to be changed by one step."""
        return clone(self.image)


def begin(image: oci.ImageConfig, layers: list[LayerRef], image_id: str) -> tuple[State, list[str]]:
    """The state after FROM, and the ONBUILD triggers of the image, which it has no longer."""
    state = State(clone(image), list(layers), image_id)
    state.image.container = state.image.container_config = None
    config = state.config
    triggers, config.on_build = config.on_build or [], None
    metadata.set_default_path(config)
    return state, triggers


def scratch(platform: str) -> oci.ImageConfig:
    """The config of no image."""
    system, architecture, *_ = platform.split("/")
    return oci.ImageConfig(os=system, architecture=architecture)


def comment(draft: oci.ImageConfig, text: str) -> str:
    """The history's words of an instruction that runs nothing, as Docker writes them."""
    return " ".join([*metadata.shell_of(metadata.settings(draft)), NO_OPERATION + text])


def finished(
    draft: oci.ImageConfig, layers: list[LayerRef], layer: LayerRef | None, created_by: str
) -> tuple[oci.ImageConfig, list[LayerRef], str]:
    """What a step made: the config with its history, the layers, and the id such an image has."""
    draft.created = now()
    layers = layers if layer is None else [*layers, layer]
    entry = oci.History(
        created=draft.created, created_by=created_by, author=draft.author, empty_layer=True if layer is None else None
    )
    draft.history = [*(draft.history or []), entry]
    draft.rootfs = oci.RootFS(diff_ids=[ref.diff_id for ref in layers])
    return draft, layers, oci.digest_of(oci.encode(draft))


def clone(config: _Config) -> _Config:
    return msgspec.json.decode(msgspec.json.encode(config), type=type(config))


def now() -> str:
    """RFC 3339 in UTC with nanoseconds, as Docker's configs have it."""
    seconds, rest = divmod(time.time_ns(), 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"
