"""config.json as a whole: what is refused before anything is made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sampan.errors import InvalidArgument
from sampan.runtime.lifecycle import bundle, specfile


def check(**more: Any) -> None:
    bundle.check(bundle.decode_spec(json.dumps(specfile.default() | more).encode()))


@pytest.mark.parametrize(
    "where", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
)
@pytest.mark.parametrize(("wrong", "words"), [
    ({"path": "bin/true"}, "path is not absolute"),
    ({"path": "/bin/true", "timeout": 0}, "timeout 0 is not greater than zero"),
    ({"path": "/bin/true", "env": ["x"]}, "not NAME=value"),
])
def test_a_hook_that_can_never_run(where: str, wrong: dict[str, Any], words: str) -> None:
    check(hooks={where: [{"path": "/bin/true"}]})
    with pytest.raises(InvalidArgument, match=rf"{where} hook #1 \('{wrong['path']}'\): .*{words}"):
        check(hooks={where: [{"path": "/bin/true"}, wrong]})


def test_names_of_users_mean_nothing_on_linux() -> None:
    named = {"args": ["sh"], "cwd": "/", "user": {"uid": 5, "username": "root", "additionalGroups": ["root"]}}
    spec = bundle.decode_spec(json.dumps(specfile.default() | {"process": named}).encode())
    assert spec.process is not None
    for process in (spec.process, bundle.decode_process(json.dumps(named).encode())):
        assert (process.user.uid, process.user.username, process.user.additional_groups) == (5, "", [])
