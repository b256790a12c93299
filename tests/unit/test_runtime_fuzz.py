"""Any config.json is either understood or refused in one clear line: the pure part, without a container.

SAMPAN_FUZZ says how many of each (400).
"""

from __future__ import annotations

import importlib
import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.config_strategy import VALUES, WHOLE, configs

from sampan.errors import SampanError
from sampan.oci import runtime as oci
from sampan.runtime.command.arguments import Command, UsageError, parse
from sampan.runtime.command.call import GLOBALS
from sampan.runtime.lifecycle import bundle

MANY = settings(
    max_examples=int(os.environ.get("SAMPAN_FUZZ", "400")), deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def commands(module: str) -> Command:
    found: Command = importlib.import_module(f"sampan.runtime.command.{module}").COMMAND
    return found


def understood(data: bytes) -> oci.Spec | None:
    """The checked spec, or None when it was refused: with a message that fits a line of a log."""
    try:
        spec = bundle.decode_spec(data)
        bundle.check(spec)
    except SampanError as error:
        assert_clear(str(error))
        return None
    return spec


def assert_clear(message: str) -> None:
    assert message and message == message.strip()
    assert "\n" not in message and "\0" not in message, message
    message.encode()


def test_the_document_itself_is_understood() -> None:
    assert understood(json.dumps(WHOLE).encode()) is not None


@MANY
@given(configs())
def test_a_changed_document(document: dict[str, Any]) -> None:
    understood(json.dumps(document).encode())


@MANY
@given(configs())
def test_a_changed_document_in_utf_8(document: dict[str, Any]) -> None:
    understood(json.dumps(document, ensure_ascii=False).encode(errors="surrogatepass"))


@MANY
@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"process":' * 100_000)
@example(b'{"a":1e999999999}')
@example(b'{"linux":{"resources":{"memory":{"limit":' + b"9" * 100_000 + b"}}}}")
@example(b"\xef\xbb\xbf{}")
def test_what_is_no_document(data: bytes) -> None:
    assert understood(data) is None


@MANY
@given(st.data())
def test_broken_text(data: st.DataObject) -> None:
    """Bytes left out, doubled or changed anywhere."""
    text = bytearray(json.dumps(WHOLE).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(text) - 1))
        length = data.draw(st.integers(0, 20))
        text[at : at + length] = data.draw(st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"]", b"\\", b","]))
    understood(bytes(text))


@pytest.mark.parametrize("value", ["C:\\udata", "\\u0000 spelled out", "\U0001f6a2", "a\\ud800", "\ud55c"])
def test_strings_that_only_look_dangerous(value: str) -> None:
    document = {**WHOLE, "annotations": {"key": value}}
    for ascii_only in (True, False):
        spec = understood(json.dumps(document, ensure_ascii=ascii_only).encode())
        assert spec is not None and spec.annotations == {"key": value}


@pytest.mark.parametrize("value", ["a\0b", "\ud800", "\ud800b", "\udfff\ud800", "\ud800\\\udc00"])
def test_strings_no_system_call_can_take(value: str) -> None:
    for where in ("annotations", "hostname"):
        document = {**WHOLE, where: {"key": value} if where == "annotations" else value}
        assert understood(json.dumps(document).encode()) is None


@MANY
@given(configs(WHOLE["process"]))
def test_a_changed_process(document: dict[str, Any]) -> None:
    """What `exec --process` reads."""
    try:
        bundle.decode_process(json.dumps(document).encode())
    except SampanError as error:
        assert_clear(str(error))


FLAGS = tuple(flag for name in ("create", "exec_", "run", "update") for flag in commands(name).flags)
NAMES = [f"{dashes}{name}" for flag in (*FLAGS, *GLOBALS) for name in flag.names for dashes in ("-", "--")]
WORD = st.sampled_from([*NAMES, "--", "-", "---x", "-=", "=", "", "boat", "true", "-1", "1", "0x7", "9" * 30, "--x"])


@MANY
@given(st.lists(WORD | st.builds(lambda name, value: f"{name}={value}", WORD, WORD) | st.text(max_size=5), max_size=8))
def test_any_command_line(words: list[str]) -> None:
    """Understood, or refused: by the global flags and by a command's, in order or mixed."""
    for flags in (GLOBALS, FLAGS):
        for mixed in (True, False):
            try:
                parsed = parse(flags, words, mixed)
            except UsageError as error:
                assert str(error)
            else:
                assert len(parsed.arguments) <= len(words)
