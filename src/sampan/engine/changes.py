"""`--change` of import and commit: Dockerfile instructions applied to an image's config."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from sampan.build import dockerfile, grammar, metadata, pathname
from sampan.build.instruction import Workdir
from sampan.errors import InvalidArgument
from sampan.oci.image import ImageConfig

_ALLOWED = frozenset({
    "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
})
_MAX = 1 << 20  # bytes


def apply_changes(config: ImageConfig, changes: Sequence[str]) -> ImageConfig:
    """The config after the changes; the one given stays as it is. Raises InvalidArgument."""
    text = "\n".join(changes).encode()
    if not text.strip():
        return config
    if len(text) > _MAX:
        raise InvalidArgument(f"the changes are longer than {_MAX} bytes")
    source = dockerfile.parse(text, "change")
    changed = copy.deepcopy(config)
    for node in source.nodes:
        if node.keyword not in _ALLOWED:
            raise InvalidArgument(f"{node.keyword} is not a valid change command")
        instruction = grammar.parse(node, source.name, source.escape)
        settings = metadata.settings(changed)
        words = metadata.Words(metadata.environment(settings), source.escape)
        if isinstance(instruction, Workdir):
            settings.working_dir = pathname.clean(
                pathname.below(settings.working_dir or "/", words.one(instruction.path))
            )
        else:
            metadata.apply(changed, instruction, words)
    return changed
