"""Variables in words, with the table of the Dockerfile reference."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.build.expansion import MAX_RESULT, ExpansionError, Rules, expand, expand_words

VALUES = {
    "HOME": "/root", "EMPTY": "", "X": "foo bar", "FILE": "archive.tar.gz", "STR": "foobarbaz", "Q": "a'b\"c",
    "_u1": "u",
}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("plain", "plain"), ("", ""), ("$HOME/x", "/root/x"), ("${HOME}x", "/rootx"), ("$NOPE.", "."), ("${NOPE}", ""),
        ("$", "$"), ("a$", "a$"), ("$.", "$."), ("$_u1", "u"), ("$1a", "a"), ("${1}", ""), ("$$", ""), ("$?x", "x"),
        ("\\$HOME", "$HOME"), ("\\\\$HOME", "\\/root"), ("a\\", "a"), ("\\a", "a"),
        ("'$HOME'", "$HOME"), ('"$HOME"', "/root"), ("'a\\b'", "a\\b"), ('"a\\b"', "a\\b"), ('"a\\"b"', 'a"b'),
        ('"\\$HOME"', "$HOME"), ('"\\\\"', "\\"), ('"it\'s"', "it's"), ("a'b c'd", "ab cd"), ("$Q", "a'b\"c"),
        ("${NOPE:-x}", "x"), ("${EMPTY:-x}", "x"), ("${EMPTY-x}", ""), ("${NOPE-x}", "x"), ("${HOME:-x}", "/root"),
        ("${NOPE:+x}", ""), ("${EMPTY:+x}", ""), ("${EMPTY+x}", "x"), ("${HOME+x}", "x"),
        ("${NOPE:-$HOME/y}", "/root/y"), ("${NOPE:-${NOPE2:-z}}", "z"), ("${NOPE:-'}'}", "}"), ('${NOPE:-"}"}', "}"),
        ("${NOPE:-\\}}", "}"), ("${HOME?msg}", "/root"), ("${NOPE:-}", ""),
        ("${FILE#*.}", "tar.gz"), ("${FILE##*.}", "gz"), ("${FILE%.*}", "archive.tar"), ("${FILE%%.*}", "archive"),
        ("${FILE#archive}", ".tar.gz"), ("${FILE#x}", "archive.tar.gz"), ("${FILE%?z}", "archive.tar."),
        ("${NOPE#x}", ""), ("${STR#f*b}", "arbaz"), ("${STR##f*b}", "az"), ("${STR%b*}", "foobar"),
        ("${STR%%b*}", "foo"),
        ("${STR#\\*}", "foobarbaz"),
        ("${STR/b/X}", "fooXarbaz"), ("${STR//b/X}", "fooXarXaz"), ("${STR/b*r/-}", "foo-baz"),
        ("${STR//[/x}", "foobarbaz"),
        ("${STR/ba?/\\/}", "foo/baz"), ("${NOPE/a/b}", ""), ("${STR//b/}", "fooaraz"), ("${STR/$NOPE/b}", "bfoobarbaz"),
    ],
)
def test_table(word: str, expected: str) -> None:
    assert expand(word, VALUES, Rules()) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("${", "syntax error: missing '}'"), ("${HOME", "missing '}'"), ("${}", "bad substitution"),
        ("${:-x}", "bad substitution"), ("${{x}}", "bad substitution"), ("${HOME:", "missing '}'"),
        ("${HOME:x}", r"unsupported modifier \(:x\)"), ("${HOME:#x}", r"unsupported modifier \(:#\)"),
        ("${HOME!x}", r"unsupported modifier \(!\)"), ("${HOME:-x", "missing '}'"),
        ("'a", "looking for matching single-quote"), ('"a', "looking for matching double-quote"),
        ("${NOPE?}", "NOPE: is not allowed to be unset"), ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${NOPE:?say why}", "NOPE: say why"), ("${STR#\\a}", "invalid escape"), ("${STR/a", "missing '/' or '}'"),
        ("${A:-" * 60 + "}" * 60, "nested more than"),
    ],
)
def test_errors(word: str, message: str) -> None:
    with pytest.raises(ExpansionError, match=message):
        expand(word, VALUES, Rules())


def test_other_escape() -> None:
    assert expand("C:\\dir`$x\\$HOME", VALUES, Rules(escape="`")) == "C:\\dir$x\\/root"


def test_words_are_split_at_unquoted_spaces() -> None:
    assert expand_words("a  'b c' $X \"$X\" $EMPTY '' d\\ e", VALUES, Rules()) == [
        "a", "b c", "foo", "bar", "foo bar", "", "d e",
    ]


def test_kept_as_written() -> None:
    keep = Rules(keep_quotes=True, keep_escapes=True, keep_unset=True)
    for text in ("'a b'\"c\" \\$x $NOPE ${NOPE} ${NOPE:-x} ${NOPE?x}", '"a\\"b"'):
        assert expand(text, {}, keep) == text
    assert expand("it's $HOME \"x\"", VALUES, Rules(ignore_quotes=True)) == "it's /root \"x\""


def test_result_is_bounded() -> None:
    with pytest.raises(ExpansionError, match="longer than"):
        expand("$BIG$BIG", {"BIG": "x" * (MAX_RESULT - 1)}, Rules())
    with pytest.raises(ExpansionError, match="longer than"):
        expand("${BIG//x/yyyyyyyy}", {"BIG": "x" * (MAX_RESULT // 2)}, Rules())


def test_patterns_take_linear_time() -> None:
    """A backtracking matcher would not come back in a lifetime."""
    values = {"A": "a" * 20_000}
    start = time.process_time()
    assert expand("${A#" + "*a" * 40 + "b}", values, Rules()) == values["A"]
    assert expand("${A//" + "*a" * 40 + "b/x}", values, Rules()) == values["A"]
    assert time.process_time() - start < 5


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="ab$'\"\\{}:-+?#%/* HOME_", max_size=30))
def test_any_text_expands_or_is_one_error(text: str) -> None:
    for rules in (Rules(), Rules(escape="`"), Rules(keep_unset=True, keep_quotes=True)):
        try:
            joined = expand(text, VALUES, rules)
        except ExpansionError:
            continue
        assert "".join(expand_words(text, VALUES, rules)).replace(" ", "") in joined.replace(" ",
            "") or rules.keep_quotes
