"""The small Struct against msgspec's: same values, same errors; and what only the small one says."""

from __future__ import annotations

import re
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.lean import json, struct, structs
from sampan.lean.json import DecodeError
from sampan.lean.struct import Struct, convert, decode, encode, field, to_builtins
from sampan.oci import runtime as theirs


def _lean_twin(module: types.ModuleType) -> Any:
    """The module again, with the small Struct in the place of msgspec's."""
    twin = types.ModuleType(f"lean_{module.__name__.rpartition('.')[2]}")
    sys.modules[twin.__name__] = twin  # where annotations are looked up
    text = Path(module.__file__ or "").read_text().replace("import structs", "import struct as structs")
    exec(compile(text, module.__file__ or "", "exec"), twin.__dict__)
    return twin


ours = _lean_twin(theirs)
STRUCTS = [
    name for name, it in vars(theirs).items()
    if isinstance(it, type) and issubclass(it, structs.Struct) and not name.startswith("_")
]
SPEC = {
    "ociVersion": "1.2.0", "unknown": [{"a": None}],
    "process": {
        "terminal": True, "user": {"uid": 1, "additionalGids": [5]}, "args": ["sh"], "cwd": "/work",
        "ioPriority": {"class": "IOPRIO_CLASS_BE"}, "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1, "soft": 1}],
    },
    "linux": {
        "uidMappings": [{"containerID": 0, "hostID": 1, "size": 2}], "sysctl": {"net.ipv4.ip_forward": "1"},
        "timeOffsets": {"boottime": {"secs": 7}}, "netDevices": {"eth0": {"name": "eth1"}},
        "resources": {"blockIO": {"throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 1}]}},
        "intelRdt": {"closID": "x", "l3CacheSchema": "y", "enableCMT": True},
    },
}


def outcome(read: Any, data: Any, kind: Any) -> Any:
    try:
        return msgspec.to_builtins(to_builtins(read(data, type=kind)))
    except (msgspec.DecodeError, DecodeError) as error:
        return "error", str(error)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """JSON values of a type, sometimes of another one."""
    wrong: st.SearchStrategy[Any] = st.sampled_from([None, True, 0, -3, 2**60, 1.5, "", "x", [], [1], {}, {"a": "b"}])
    return st.integers(0, 19).flatmap(lambda luck: wrong if luck == 0 else right(kind))


def right(kind: Any) -> st.SearchStrategy[Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return st.one_of([right(it) for it in arguments])
    if origin is list:
        return st.lists(values(arguments[0]), max_size=2)
    if origin is dict:
        return st.dictionaries(st.text(max_size=3), values(arguments[1]), max_size=2)
    if kind is types.NoneType:
        return st.none()
    if issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        wanted = {it.encode_name: values(it.type) for it in fields if it.required}
        free = {it.encode_name: values(it.type) for it in fields if not it.required} | {"no": st.just(1)}
        optional = st.lists(st.sampled_from(sorted(free)), max_size=3, unique=True)
        return optional.flatmap(lambda some: st.fixed_dictionaries(wanted | {name: free[name] for name in some}))
    simple: dict[type, st.SearchStrategy[Any]] = {
        bool: st.booleans(), int: st.integers(-(2**63), 2**64 - 1), str: st.text(max_size=4),
    }
    return simple[kind]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(STRUCTS).flatmap(lambda name: st.tuples(st.just(name), right(getattr(theirs, name)))))
def test_any_part_of_a_spec_reads_and_writes_as_with_msgspec(case: tuple[str, Any]) -> None:
    name, value = case
    data = msgspec.json.encode(value)
    expected = outcome(msgspec.json.decode, data, getattr(theirs, name))
    assert outcome(decode, data, getattr(ours, name)) == expected
    assert outcome(convert, value, getattr(ours, name)) == expected
    if not isinstance(expected, tuple):
        struct_ = decode(data, getattr(ours, name))
        assert json.parse(encode(struct_)) == to_builtins(struct_)
        assert decode(encode(struct_), getattr(ours, name)) == struct_
        assert msgspec.json.decode(encode(struct_), type=getattr(theirs, name)) == msgspec.json.decode(
            data, type=getattr(theirs, name)
        )


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=20), st.text(alphabet='[]{}",:0123-.eE+ntrufals\\ud8', max_size=20)))
def test_any_text_is_json_for_both_or_for_neither(text: str) -> None:
    try:
        expected = "value", msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        expected = "error", None
    try:
        found = "value", json.parse(text)
    except DecodeError:
        found = "error", None
    assert found == expected


def test_a_whole_spec() -> None:
    spec = decode(msgspec.json.encode(SPEC), ours.Spec)
    same = msgspec.json.decode(msgspec.json.encode(SPEC), type=theirs.Spec)
    assert repr(spec) == repr(same)
    assert spec.process.user.additional_gids == [5]
    assert encode(spec) == msgspec.json.encode(same)
    spec.process.user.additional_gids.append(6)
    assert ours.User().additional_gids == []


@pytest.mark.parametrize(("text", "message"), [
    ('{"process":{"cwd":1}}', "Expected `str`, got `int` - at `$.process.cwd`"),
    ('{"mounts":[{"destination":"a"},{}]}', "Object missing required field `destination` - at `$.mounts[1]`"),
    ('{"process":{"terminal":1}}', "Expected `bool`, got `int` - at `$.process.terminal`"),
    ('{"process":{"oomScoreAdj":true}}', "Expected `int | null`, got `bool` - at `$.process.oomScoreAdj`"),
    ('{"annotations":{"a":null}}', "Expected `str`, got `null` - at `$.annotations[...]`"),
    ("[]", "Expected `object`, got `array`"),
    ("{} x", "JSON is malformed: trailing characters at line 1, column 3"),
    ("", "Input data was truncated"),
    ('{"a":1,\n  b:2}', "JSON is malformed: expecting property name enclosed in double quotes at line 2, column 3"),
    ('\n"abc', "JSON is malformed: unterminated string starting at line 2, column 1"),
    (' {"a":nul}', "JSON is malformed: invalid character at line 1, column 7"),
    ('{"a":NaN}', "JSON is malformed: NaN is not JSON"),
    ('{"a":1e999}', "Number out of range"),
])
def test_what_is_wrong_is_said_with_its_place(text: str, message: str) -> None:
    with pytest.raises(DecodeError) as error:
        decode(text, ours.Spec)
    assert str(error.value) == message


def test_a_fresh_interpreter_says_the_same() -> None:
    """Without json.decoder in memory CPython 3.11's scanner cannot say anything."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from sampan.lean import json
assert "json.decoder" not in sys.modules
try:
    json.parse(sys.argv[2])
except json.DecodeError as error:
    print(error)
assert "json.decoder" not in sys.modules
"""
    text = '{"a":1,\n  b:2}'
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, Path(json.__file__).parents[2], text],
        capture_output=True, text=True, check=True,
    )
    with pytest.raises(DecodeError) as error:
        json.parse(text)
    assert done.stdout == f"{error.value}\n"


@pytest.mark.parametrize("data", [
    b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b'{"a":"\xff"}', b'"\\ud800"', b'{"\\udcff":1}', b"9" * 5000, b'{"a":',
    b"'a'", b'{"a":01}', b'{"a":1,}', b'"\x01"', b"Infinity", b"\xef\xbb\xbf{}", b"nul", b'"abc',
])
def test_hostile_texts_are_one_clear_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        json.parse(data)
    with pytest.raises(structs.DecodeError):
        structs.decode(data, type=dict)


class Overlay(Struct, tag="overlay", tag_field="kind"):
    lower: list[str]
    upper: str = ""


class Directory(Struct, tag="directory", tag_field="kind"):
    path: str


class Job(Struct, rename="camel", frozen=True):
    root_fs: Overlay | Directory
    other: Overlay | Directory | None = None
    tries: float = 1.0
    anything: Any = None
    limits: dict[str, list[int]] = field(default_factory=dict)
    renamed: tuple[str, ...] = field(default=(), name="NAME")


def test_tagged_unions() -> None:
    job = Job(Directory("/x"), tries=2.0)
    data = encode(job)
    assert data == (
        b'{"rootFs":{"kind":"directory","path":"/x"},"other":null,"tries":2.0,"anything":null,"limits":{},"NAME":[]}'
    )
    assert decode(data, Job) == job
    assert decode(data, Job) != Job(Directory("/y"), tries=2.0)
    assert convert({"rootFs": Overlay(["/l"]), "NAME": ["a"], "tries": 3}, Job).renamed == ("a",)
    for text, message in (
        ('{"rootFs":{}}', "Object missing required field `kind` - at `$.rootFs`"),
        ('{"rootFs":{"kind":"x"}}', "Invalid value 'x' - at `$.rootFs.kind`"),
        ('{"rootFs":{"kind":"overlay"}}', "Object missing required field `lower` - at `$.rootFs`"),
        ('{"rootFs":[]}', "Expected `object`, got `array` - at `$.rootFs`"),
        ('{"rootFs":{"kind":"directory","path":"/"},"limits":{"a":[1,""]}}',
         "Expected `int`, got `str` - at `$.limits[...][1]`"),
    ):
        with pytest.raises(DecodeError) as error:
            decode(text, Job)
        assert str(error.value) == message


class Odd(Struct):
    deep: dict[str, dict[str, list[int | None]]]
    either: list[int] | dict[str, struct.Struct] | None
    pair: tuple[Overlay | Directory, ...] = ()


def test_unusual_annotations() -> None:
    odd = decode('{"deep":{"a":{"b":[1,null]}},"either":[2],"pair":[{"kind":"directory","path":"/"}]}', Odd)
    assert odd == Odd({"a": {"b": [1, None]}}, [2], (Directory("/"),))
    with pytest.raises(DecodeError, match=re.escape("Expected `int | null`, got `str` - at `$.deep[...][...][0]`")):
        decode('{"deep":{"a":{"b":["1"]}},"either":null}', Odd)
    with pytest.raises(DecodeError, match=re.escape("Expected `object | array | null`, got `bool`")):
        decode('{"deep":{},"either":true}', Odd)


class Frozen(Struct, frozen=True):
    path: str
    others: tuple[str, ...] = ()


def test_instances() -> None:
    assert len({Frozen("/a"), Frozen("/a"), Frozen(path="/b")}) == 2
    overlay = Overlay(["/a"], upper="/u")
    assert repr(overlay) == "Overlay(lower=['/a'], upper='/u')"
    overlay.upper = "/v"
    assert overlay.upper == "/v"
    with pytest.raises(TypeError):
        hash(overlay)
    with pytest.raises(AttributeError):
        Job(Directory("/x")).tries = 3.0
    with pytest.raises(AttributeError):
        overlay.uper = "/v"
    make: Any = Overlay
    for wrong in (
        lambda: make(), lambda: make([], "", ""), lambda: make([], lower=[]), lambda: make([], no=1),
        lambda: ours.Root("/x"), lambda: encode(object()), lambda: decode(b"1", set[int]),
    ):
        with pytest.raises(TypeError):
            wrong()


def test_where_msgspec_is_loaded_all_is_msgspecs() -> None:
    assert structs.Struct is msgspec.Struct
    assert structs.DecodeError is msgspec.DecodeError
