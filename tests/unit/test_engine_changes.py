"""`--change` of import and commit."""

from __future__ import annotations

import pytest

from sampan.engine.changes import apply_changes
from sampan.errors import InvalidArgument
from sampan.oci.image import ContainerConfig, ImageConfig


def test_instructions_change_a_copy() -> None:
    before = ImageConfig(config=ContainerConfig(env=["A=1"], working_dir="/srv"))
    after = apply_changes(before, [
        'CMD ["sh", "-c", "true"]', "ENV A=2 B=${A}3", "EXPOSE 80", "LABEL x=y", "WORKDIR sub/../app", "USER nobody",
    ]).config
    assert after is not None
    assert after.cmd == ["sh", "-c", "true"] and after.env == ["A=2", "B=13"]
    assert after.exposed_ports == {"80/tcp": {}} and after.labels == {"x": "y"}
    assert after.working_dir == "/srv/app" and after.user == "nobody"
    assert before.config is not None and before.config.env == ["A=1"] and before.config.cmd is None


def test_no_changes_are_no_work() -> None:
    config = ImageConfig()
    assert apply_changes(config, []) is config and apply_changes(config, ["  "]) is config


@pytest.mark.parametrize(("change", "message"), [
    ("RUN true", "RUN is not a valid change command"),
    ("FROM x", "FROM is not a valid change command"),
    ("COPY a b", "COPY is not a valid change command"),
    ("NONSENSE", "is not a valid change command"),
    ("ENV", "ENV"),
    ("EXPOSE x", "x"),
])
def test_what_is_no_change(change: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        apply_changes(ImageConfig(), [change])
