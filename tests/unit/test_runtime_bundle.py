"""config.json as a whole: what is refused before anything is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import InvalidArgument, NotFound, Unsupported
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


def process(**more: Any) -> dict[str, Any]:
    return {"process": specfile.default()["process"] | more}


def linux(**more: Any) -> dict[str, Any]:
    return {"linux": specfile.default()["linux"] | more}


def without(kind: str) -> dict[str, Any]:
    """A document without the namespace of a kind, and without names."""
    kinds = [entry for entry in specfile.default()["linux"]["namespaces"] if entry["type"] != kind]
    return linux(namespaces=kinds) | {"hostname": "", "domainname": ""}


ONE = [{"containerID": 0, "hostID": 1000, "size": 1}]
WITH_USER = [*specfile.default()["linux"]["namespaces"], {"type": "user"}]
LARGEST = 2**32 - 2


@pytest.mark.parametrize(("more", "words"), [
    ({"process": None}, "has no process"),
    ({"linux": None}, "has no linux section"),
    ({"root": {"path": ""}}, "has no root"),
    ({"root": None}, "has no root"),
    ({"annotations": {"": "x"}}, "an annotation has an empty key"),
    (process(args=[]), "args must not be empty"),
    (process(cwd="bin"), "Cwd must be an absolute path, not 'bin'"),
    (process(cwd=""), "Cwd must be an absolute path, not ''"),
    (process(user={"uid": -1}), "id -1 is out of range"),
    (process(user={"gid": LARGEST + 1}), f"id {LARGEST + 1} is out of range"),
    (process(user={"additionalGids": [7, -2]}), "id -2 is out of range"),
    (process(user={"umask": 0o1000}), "umask 512 is out of range: 0 to 511"),
    (process(user={"umask": -1}), "umask -1 is out of range"),
    (process(consoleSize={"height": 65536, "width": 1}), "consoleSize is out of range"),
    (process(consoleSize={"height": 1, "width": -1}), "consoleSize is out of range"),
    (without("mount"), "no mount namespace"),
    (without("uts") | {"hostname": "boat"}, "unable to set hostname without a private UTS namespace"),
    (without("uts") | {"domainname": "sea"}, "unable to set hostname without a private UTS namespace"),
    (linux(namespaces=[{"type": "mount"}, {"type": "moon"}]), "unknown namespace type: 'moon'"),
    (linux(namespaces=[{"type": "mount"}, {"type": "mount"}]), "duplicated ns mount"),
    (linux(namespaces=[*WITH_USER, {"type": "time", "path": "time"}]), "namespace path 'time' is not absolute"),
    (linux(uidMappings=ONE, gidMappings=ONE), "mappings are given, but there is no user namespace"),
    (linux(gidMappings=ONE), "mappings are given, but there is no user namespace"),
    (linux(namespaces=WITH_USER, uidMappings=ONE), "needs uidMappings and gidMappings"),
    (linux(namespaces=WITH_USER, gidMappings=ONE), "needs uidMappings and gidMappings"),
    (linux(namespaces=WITH_USER, uidMappings=[ONE[0] | {"size": 0}], gidMappings=ONE), "0 1000 0: no such range"),
    (linux(namespaces=WITH_USER, uidMappings=[ONE[0] | {"hostID": -1}], gidMappings=ONE), "0 -1 1: no such range"),
    (linux(namespaces=WITH_USER, uidMappings=ONE, gidMappings=[ONE[0] | {"hostID": LARGEST, "size": 2}]),
     f"0 {LARGEST} 2: past {LARGEST}"),
    (linux(maskedPaths=["proc/kcore"]), "path 'proc/kcore' is not absolute"),
    (linux(readonlyPaths=["proc"]), "path 'proc' is not absolute"),
    (linux(devices=[{"path": "dev/x", "type": "c", "major": 1, "minor": 3}]), "device path 'dev/x' is not absolute"),
    ({"mounts": [{"destination": ""}]}, "a mount has no destination"),
])
def test_what_no_container_can_be_made_of(more: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        check(**more)


@pytest.mark.parametrize("more", [
    process(user={"uid": 0, "gid": LARGEST, "additionalGids": [0, LARGEST], "umask": 0o777}),
    process(user={"umask": 0}),
    process(consoleSize={"height": 0, "width": 65535}),
    process(consoleSize={"height": 65535, "width": 0}),
    without("uts"),
    linux(namespaces=WITH_USER, uidMappings=[ONE[0] | {"hostID": LARGEST}], gidMappings=ONE),
    linux(namespaces=[*WITH_USER[:-1], {"type": "user", "path": "/proc/self/ns/user"}]),
])
def test_what_is_just_possible(more: dict[str, Any]) -> None:
    check(**more)


@pytest.mark.parametrize("version", ["", "1", "2.0.0", "0.9", "one.0"])
def test_versions_that_nobody_knows(version: str) -> None:
    with pytest.raises(Unsupported, match="is not one this runtime knows"):
        check(ociVersion=version)


def test_what_exec_is_given_is_looked_at_as_well() -> None:
    with pytest.raises(InvalidArgument, match="args must not be empty"):
        bundle.decode_process(b'{"args": [], "cwd": "/"}')


@pytest.mark.parametrize(("text", "wrong"), [
    (r'"\ud83d\ude00"', False), (r'"\uD83D\uDE00\ud83d\ude00 x"', False), (r'"\\ud83d"', False), (r'"\ue000"', False),
    (r'"\ud83d"', True), (r'"\ude00"', True), (r'"\ude00\ud83d"', True), (r'"\ud83d \ude00"', True),
    (r'"\ud83d\u0041"', True), (r'"\ud83d\ud83d\ude00"', True), (r'"\ud83d\ude00\ude00"', True),
])
def test_half_a_pair_is_no_character(text: str, wrong: bool) -> None:
    document = b'{"args": ["x", %s], "cwd": "/"}' % text.encode()
    if wrong:
        with pytest.raises(InvalidArgument, match="half a surrogate pair"):
            bundle.decode_process(document)
    else:
        assert bundle.decode_process(document).args == ["x", json.loads(text)]


@pytest.mark.parametrize("data", [rb'{"args": ["a\u0000b"]}', b'{"args": ["a\0b"]}'])
def test_nul_ends_no_string(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="the process holds a NUL character"):
        bundle.decode_process(data)


def test_relative_paths_begin_at_the_bundle(tmp_path: Path) -> None:
    mounts = [
        {"destination": "/a", "type": "bind", "source": "one"},
        {"destination": "/b", "type": "none", "source": "two", "options": ["ro", "bind"]},
        {"destination": "/c", "source": "three", "options": ["rbind"]},
        {"destination": "/d", "type": "bind", "source": "/four"},
        {"destination": "/e", "type": "tmpfs", "source": "five"},
        {"destination": "/f", "type": "bind"},
    ]
    document = specfile.default() | {"mounts": mounts, "root": {"path": "tree"}}
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(NotFound, match=f"{tmp_path}/tree is not a directory"):
        bundle.load(str(tmp_path))
    (tmp_path / "tree").mkdir()
    spec = bundle.load(str(tmp_path))
    assert spec.root is not None and spec.root.path == f"{tmp_path}/tree"
    below = [f"{tmp_path}/{name}" for name in ("one", "two", "three")]
    assert [mount.source for mount in spec.mounts] == [*below, "/four", "five", ""]


def test_more_groups_than_a_process_can_be_in() -> None:
    document: dict[str, Any] = specfile.default()
    document["process"]["user"]["additionalGids"] = list(range(65536)) * 2
    bundle.check(bundle.decode_spec(json.dumps(document).encode()))
    document["process"]["user"]["additionalGids"].append(65536)
    with pytest.raises(InvalidArgument, match="more than 65536 additionalGids"):
        bundle.check(bundle.decode_spec(json.dumps(document).encode()))
