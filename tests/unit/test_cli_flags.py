"""The command line as Docker's own parser reads it."""

from __future__ import annotations

import pytest

from sampan.cli.failure import UsageError
from sampan.cli.flags import BOOL, BYTES, DURATION, INT, LIST, STRING, STRINGS, UINT16, Option, parse

OPTIONS = (
    Option("-i", "--interactive", help=""), Option("-t", "--tty", help=""), Option("-e", "--env", kind=LIST, help=""),
    Option("--name", kind=STRING, help=""), Option("-m", "--memory", kind=BYTES, help=""),
    Option("--proxy", kind=BOOL, default=True, help=""), Option("-n", "--number", kind=INT, help=""),
    Option("--weight", kind=UINT16, help=""), Option("--interval", kind=DURATION, help=""),
    Option("--strings", kind=STRINGS, help=""), Option("--net", "--network", kind=STRING, help=""),
)


def test_switches_in_one_word() -> None:
    parsed = parse(OPTIONS, ["-it", "x"])
    assert parsed.values.on("interactive") and parsed.values.on("tty")
    assert parsed.arguments == ["x"]


def test_switch_with_a_value() -> None:
    values = parse(OPTIONS, ["--proxy=false", "-t=true"]).values
    assert not values.on("proxy") and values.on("tty")
    assert parse(OPTIONS, []).values.on("proxy")


@pytest.mark.parametrize("words", [
    ["-eA=b"], ["-e=A=b"], ["-e", "A=b"], ["--env", "A=b"], ["--env=A=b"], ["-ite", "A=b"], ["-iteA=b"],
])
def test_every_way_to_give_a_value(words: list[str]) -> None:
    assert parse(OPTIONS, words).values.texts("env") == ["A=b"]


def test_a_value_may_begin_with_a_dash() -> None:
    values = parse(OPTIONS, ["-m", "-1", "--name", "--tty", "-e", "-x"]).values
    assert (values.number("memory"), values.text("name"), values.texts("env")) == (-1, "--tty", ["-x"])
    assert not values.on("tty")


def test_options_end_at_the_first_argument_where_they_should() -> None:
    words = ["-i", "image", "ls", "-t", "--", "--nope"]
    parsed = parse(OPTIONS, words, stop_at_argument=True)
    assert parsed.arguments == words[1:] and not parsed.values.on("tty")
    assert parse(OPTIONS, ["a", "-t", "b"]).arguments == ["a", "b"]
    assert parse(OPTIONS, ["--", "-t"]).arguments == ["-t"]
    assert parse(OPTIONS, ["-"]).arguments == ["-"]


def test_the_last_one_wins_and_lists_grow() -> None:
    words = ["--name", "a", "--name", "b", "-e", "1", "-e", "2", "--strings", "x,y", "--strings", "z"]
    values = parse(OPTIONS, words).values
    assert values.text("name") == "b"
    assert values.texts("env") == ["1", "2"]
    assert values.texts("strings") == ["x", "y", "z"]


def test_an_alias_has_the_last_name_as_key() -> None:
    assert parse(OPTIONS, ["--net", "x"]).values.text("network") == "x"


def test_given_or_default() -> None:
    values = parse(OPTIONS, ["--name", ""]).values
    assert values.given("name") and not values.given("memory")
    assert values.text("name") == "" and values.number("memory") == 0


@pytest.mark.parametrize(("text", "number"), [("10", 10), ("-3", -3), ("0x10", 16), ("010", 8), ("0b11", 3)])
def test_numbers(text: str, number: int) -> None:
    assert parse(OPTIONS, ["-n", text]).values.number("number") == number


@pytest.mark.parametrize(("words", "message"), [
    (["--nope"], "unknown flag: --nope"),
    (["--nope=3"], "unknown flag: --nope"),
    (["-ix"], "unknown shorthand flag: 'x' in -ix"),
    (["--name"], "flag needs an argument: --name"),
    (["-ie"], "flag needs an argument: 'e' in -ie"),
    (["--tty=maybe"], 'invalid argument "maybe" for "-t, --tty" flag'),
    (["-n", "x"], 'invalid argument "x" for "-n, --number" flag'),
    (["-n", "99999999999999999999"], "too large"),
    (["--weight", "65536"], "not between 0 and 65535"),
    (["-m", "12x"], "invalid suffix: 'x'"),
    (["--interval", "3"], 'missing unit in duration "3"'),
    (["--=x"], "bad flag syntax"),
])
def test_refusals(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=r".*") as caught:
        parse(OPTIONS, words)
    assert message in str(caught.value)
    assert caught.value.exit_code == 125


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["-i", "--help", "--nope"]])
def test_help(words: list[str]) -> None:
    assert parse(OPTIONS, words).wants_help
