""".dockerignore: Go's filepath.Match, `**`, exceptions, directories; the reference's own examples."""

from __future__ import annotations

import fnmatch
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.build import glob
from sampan.build.ignore import MAX_IGNORE_FILE, Ignore, parse
from sampan.build.pathname import below, clean, join
from sampan.errors import InvalidArgument


@pytest.mark.parametrize(
    ("patterns", "path", "excluded"),
    [
        ("*/temp*", "somedir/temporary.txt", True), ("*/temp*", "somedir/temp", True), ("*/temp*", "temp", False),
        ("*/*/temp*", "somedir/subdir/temporary.txt", True), ("temp?", "tempa", True), ("temp?", "temp", False),
        ("**/*.go", "a.go", True), ("**/*.go", "x/y/a.go", True), ("**/*.go", "a.gox", False),
        ("*.md\n!README.md", "README.md", False), ("*.md\n!README.md", "x.md", True),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
        ("node_modules", "node_modules/a/b", True), ("node_modules", "x/node_modules", False),
        ("**/node_modules", "x/y/node_modules/z", True), ("/foo", "foo/bar", True), ("foo/", "foo/bar", True),
        ("foo/../bar", "bar", True), ("./a", "a", True), ("#x", "#x", False), (" #x", "#x", True), ("", "a", False),
        ("*", "a", True), ("*", ".git/x", True), ("*\n!a", "a", False), ("*\n!a", "a/b", False),
        ("*\n!a/b", "a/c", True),
        ("*\n!a/b", "a/b/c", False), ("a\n!a/b", "a/b", False), ("a\n!a", "a", False), ("!a\na", "a", True),
        ("a[b-d]", "ac", True), ("a[^b-d]", "ac", False), ("a[^b-d]", "ae", True), ("a\\*", "a*", True),
        ("a\\*", "ab", False),
        ("[]a]", "a", None), ("[a", "a", None), ("a\\", "a", None), ("!", "a", None), ("[a-]", "a", None),
        ("[]", "a", None),
        ("**", "a/b", True), ("a/**", "a", False), ("a/**", "a/b/c", True), ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True), ("a/**/b", "ab", False), ("**foo", "barfoo", True), ("**foo", "a/barfoo", True),
        ("**/foo", "barfoo", False), ("a**b", "ab", True), ("a**b", "axb", False), ("a**b", "ax/b", True),
        ("**/a/**/b", "x/a/y/z/b", True), ("a.c", "abc", False), ("a+(b)|{}^$", "a+(b)|{}^$", True), ("..", "a", False),
    ],
)
def test_table(patterns: str, path: str, excluded: bool | None) -> None:
    if excluded is None:
        with pytest.raises(InvalidArgument, match=r"syntax error in pattern|illegal exclusion pattern"):
            Ignore(parse(patterns.encode()))
    else:
        assert Ignore(parse(patterns.encode())).excludes(path) is excluded


def test_file() -> None:
    data = b"\xef\xbb\xbf# comment\n  a \r\n\n!  b\n caf\xe9"
    assert parse(data) == ["a", "!  b", "caf\udce9"]
    assert Ignore(parse(data)).excludes("caf\udce9")
    with pytest.raises(InvalidArgument, match="larger than"):
        parse(b"a" * (MAX_IGNORE_FILE + 1))


def test_linear_time() -> None:
    ignore = Ignore(["**/" * 30 + "*a" * 30 + "b"])
    start = time.process_time()
    assert not ignore.excludes("/".join(["a" * 50] * 20))
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*", "", True), ("*", "a", True), ("*", "a/b", False), ("?", "/", False), ("[^a]", "/", False),
        ("a*b*c", "axxbyyc", True),
        ("a*b*c", "axxbyy", False), ("**", "a/b", False), ("*/*", "a/b", True), ("\\[a]", "[a]", True),
        ("[\\]]", "]", True),
        ("[a-c-e]", "b", None), ("é?", "éü", True), ("*\udce9", "a\udce9", True),
    ],
)
def test_filename_patterns(pattern: str, name: str, matches: bool | None) -> None:
    if matches is None:
        with pytest.raises(InvalidArgument, match="syntax error in pattern"):
            glob.filename(pattern)
    else:
        assert glob.filename(pattern).matches(name) is matches


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="ab*?", max_size=8), st.text(alphabet="ab", max_size=10))
def test_same_as_fnmatch(pattern: str, name: str) -> None:
    assert glob.filename(pattern).matches(name) is fnmatch.fnmatchcase(name, pattern)


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="ab/*", max_size=8), st.text(alphabet="ab/", max_size=10))
def test_same_as_dockers_regular_expression(pattern: str, path: str) -> None:
    """The translation that Docker documents for `**`, tried on short texts where backtracking does not hurt."""
    if pattern.startswith("**") and not any(char in pattern[2:] for char in "*?") and pattern[2:3] != "/":
        return  # Docker's special case of a suffix
    parts = {"": "", "*": "[^/]*"}
    expression = re.sub(
        r"\*\*/?(\Z)?|\*", lambda found: parts.get(found[0]) or (".*" if found[1] == "" else "(.*/)?"), pattern
    )
    assert glob.filename(pattern, jumps=True).matches(path) is (re.fullmatch(expression, path) is not None)


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [("", "."), ("/", "/"), ("//a", "/a"), ("a/./b/", "a/b"), ("a/..", "."), ("../a", "../a"), ("/../a", "/a"),
    ("a/../../b", "../b")],
)
def test_clean(path: str, cleaned: str) -> None:
    assert clean(path) == cleaned


def test_below() -> None:
    assert below("/w", "a") == "/w/a"
    assert below("/w", "a/") == "/w/a/"
    assert below("/w", ".") == "/w/"
    assert below("/w", "/a/../b") == "/b"
    assert below("", "..") == "/"
    assert join("/", "w", "../../x") == "/x"
