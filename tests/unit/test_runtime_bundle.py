"""config.json as a whole: what is refused before anything is made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sampan.errors import InvalidArgument
from sampan.lean.structs import DecodeError
from sampan.oci import runtime as oci
from sampan.runtime.lifecycle import bundle, documents, specfile


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


def nulled(value: Any) -> Any:
    """The document with one more member, null, in each object."""
    if isinstance(value, list):
        return [nulled(item) for item in value]
    if isinstance(value, dict):
        return {key: nulled(item) for key, item in value.items()} | {"nobody knows": None}
    return value


def test_null_is_as_good_as_left_out() -> None:
    """Go's encoding/json writes it for a slice, a map or a pointer that is nil, and takes it for any of them."""
    document: dict[str, Any] = specfile.default()
    plain = bundle.decode_spec(json.dumps(document).encode())
    document = nulled(document) | {"hooks": None, "annotations": None, "domainname": None}
    document["process"] |= {"env": None, "apparmorProfile": None, "oomScoreAdj": None, "rlimits": None}
    document["linux"] |= {"devices": None, "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": None}}
    document["mounts"].append({"destination": "/m", "type": "tmpfs", "source": "m", "options": None})
    found = bundle.decode_spec(json.dumps(document).encode())
    assert plain.process is not None and found.process is not None and found.linux is not None
    assert (found.hostname, found.mounts[:-1], found.mounts[-1].options) == (plain.hostname, plain.mounts, [])
    assert (found.process.env, found.process.rlimits, found.linux.devices) == ([], [], [])
    assert bundle.decode_process(b'{"args": ["sh"], "user": null, "cwd": null}') == oci.Process(args=["sh"])
    assert documents.decode(b'{"memory": null, "cpu": {"cpus": null, "shares": 5}}', oci.Resources) == oci.Resources(
        cpu=oci.CPU(shares=5)
    )


@pytest.mark.parametrize("wrong", [b"null", b'{"process": {"args": [null]}}', b'{"mounts": [{"destination": null}]}'])
def test_null_is_no_value(wrong: bytes) -> None:
    with pytest.raises(DecodeError):
        documents.decode(wrong, oci.Spec)


def test_null_is_found_however_deep() -> None:
    depth = 400
    deep = b'{"annotations": null, "unknown": ' + b"[" * depth + b"null" + b"]" * depth + b"}"
    assert documents.decode(deep, oci.Spec) == oci.Spec()


@pytest.mark.parametrize(("entry", "words"), [
    ("FOO", "'FOO' is not NAME=value"), ("", "'' is not NAME=value"), ("=x", "name can't be empty: '=x'"),
    ("=", "name can't be empty"),
])
def test_the_environment_is_names_and_values(entry: str, words: str) -> None:
    document: dict[str, Any] = specfile.default()
    document["process"]["env"] = ["A=1", "A=", "B==", entry]
    with pytest.raises(InvalidArgument, match=words):
        bundle.check(bundle.decode_spec(json.dumps(document).encode()))


@pytest.mark.parametrize(("namespaces", "words"), [
    ([{"type": "mount"}], "timeOffsets need a time namespace"),
    ([{"type": "mount"}, {"type": "time", "path": "/proc/self/ns/time"}], "one to join has its own"),
])
def test_offsets_are_for_clocks_of_ones_own(namespaces: list[dict[str, str]], words: str) -> None:
    document: dict[str, Any] = specfile.default()
    del document["hostname"]
    document["linux"] |= {"namespaces": namespaces, "timeOffsets": {"boottime": {"secs": 1}}}
    with pytest.raises(InvalidArgument, match=words):
        bundle.check(bundle.decode_spec(json.dumps(document).encode()))
