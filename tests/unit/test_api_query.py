"""Query strings: Docker's booleans, numbers and filters; hostile ones."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.query import Query
from sampan.errors import InvalidArgument, SampanError


@pytest.mark.parametrize(("text", "expected"), [
    ("a=1", True), ("a=true", True), ("a=True", True), ("a=yes", True), ("a=2", True),
    ("a=", False), ("a", False), ("a=0", False), ("a=false", False), ("a=False", False), ("a=no", False),
    ("a=none", False), ("b=1", False),
])
def test_flags(text: str, expected: bool) -> None:
    assert Query(text).flag("a") is expected


def test_absent_flags_have_their_default() -> None:
    assert Query("").flag("stream", default=True) is True
    assert Query("stream=").flag("stream", default=True) is False


def test_texts_and_numbers() -> None:
    query = Query("t=10&names=a&names=b%2Fc&empty=&w=%2B1&plus=a+b")
    assert query.integer("t") == 10
    assert query.integer("w") == 1
    assert query.integer("empty") is None and query.integer("none") is None
    assert query.all("names") == ["a", "b/c"] and query.text("names") == "a"
    assert query.optional("empty") is None and query.text("plus") == "a b"


@pytest.mark.parametrize("value", ["x", "1.5", "0x10", "9" * 30, "١"])
def test_what_is_no_number(value: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a number"):
        Query(f"t={value}").integer("t")


@pytest.mark.parametrize(("value", "expected"), [
    ('{"label":{"a=b":true,"c":false}}', {"label": ["a=b"]}),
    ('{"label":["a=b","c"]}', {"label": ["a=b", "c"]}),
    ('{"label":{}}', {}),
    ("", {}),
    ("null", {}),
])
def test_filters(value: str, expected: dict[str, list[str]]) -> None:
    assert Query(f"filters={value}").filters() == expected


@pytest.mark.parametrize("value", [
    "{", "[]", '"x"', '{"a":1}', '{"a":{"b":1}}', '{"a":[1]}', '{"a":null}', "[" * 5000,
    json.dumps({"a": [str(number) for number in range(5000)]}),
])
def test_filters_that_are_none(value: str) -> None:
    with pytest.raises(InvalidArgument):
        Query(f"filters={value}").filters()


@given(st.text())
def test_any_query_is_read_or_refused(text: str) -> None:
    try:
        query = Query(text)
        query.filters()
        query.flag("a")
        query.integer("t")
    except SampanError:
        pass
