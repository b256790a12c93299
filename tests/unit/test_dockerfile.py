"""A Dockerfile's text: lines, flags, JSON forms, heredocs; and the same answers as BuildKit's parser."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sampan.build import dockerfile, grammar, words
from sampan.build.dockerfile import DockerfileError, Heredoc
from sampan.build.instruction import Cmd, Copy, From, Healthcheck, OnBuild, Run
from sampan.errors import InvalidArgument

oracle = pytest.importorskip("dockerfile", reason="the package dockerfile (BuildKit's parser) is the oracle")


def nodes(text: str) -> list[tuple[str, str]]:
    return [(node.keyword, node.arguments) for node in dockerfile.parse(text.encode()).nodes]


def plan(text: str) -> grammar.Plan:
    return grammar.plan(dockerfile.parse(text.encode()))


def instructions(text: str) -> list[object]:
    return list(plan("FROM scratch\n" + text).stages[0].instructions)


def test_lines_are_joined_and_comments_left_out() -> None:
    text = "# a comment\n\nRUN a \\\n  # in between\n\n  b \\\nc\nRUN d"
    assert nodes(text) == [("RUN", "a   b c"), ("RUN", "d")]
    assert [node.line for node in dockerfile.parse(text.encode()).nodes] == [3, 8]


def test_two_escapes_at_the_end_continue_nothing() -> None:
    assert nodes("RUN a\\\\\nRUN b") == [("RUN", "a\\\\"), ("RUN", "b")]


def test_escape_directive() -> None:
    assert nodes("# escape=`\nRUN dir C:\\ `\n /s\n") == [("RUN", "dir C:\\  /s")]
    assert nodes("# a comment first\n# escape=`\nRUN a `\nRUN b") == [("RUN", "a `"), ("RUN", "b")]


def test_syntax_directive() -> None:
    assert dockerfile.parse(b"#syntax=docker/dockerfile:1\nFROM x").syntax == "docker/dockerfile:1"


def test_byte_order_mark_and_carriage_returns() -> None:
    assert nodes("\ufeffFROM x\r\nRUN a \\\r\n b\r\n") == [("FROM", "x"), ("RUN", "a  b")]


def test_heredocs() -> None:
    text = 'RUN cat <<A - <<-"B"\n1\nA\n\t2 $x\n\tB\nRUN next'
    first, second = dockerfile.parse(text.encode()).nodes
    assert first.heredocs == (Heredoc("A", "1\n"), Heredoc("B", "\t2 $x\n", expand=False, chomp=True))
    assert first.heredocs[1].text == "2 $x\n"
    assert (second.arguments, second.line) == ("next", 6)


def test_heredocs_only_where_they_belong() -> None:
    assert nodes("ENV a=<<E\nE b") == [("ENV", "a=<<E"), ("E", "b")]
    assert nodes('RUN echo "<<E"\nE b') == [("RUN", 'echo "<<E"'), ("E", "b")]
    assert nodes('RUN ["a", "<<E"]\nE b') == [("RUN", '["a", "<<E"]'), ("E", "b")]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("FROM scratch\n\nFRM x", 3, "unknown instruction: FRM (did you mean FROM?)"),
        ("FROM scratch\nCOPY a", 2, "COPY requires at least two arguments, but only one was provided"),
        ("RUN a", 1, "FROM must come before RUN"),
        ("ARG a=b", 1, "a FROM instruction is missing"),
        ("", 1, "file with no instructions"),
        ("# nothing\n", 1, "file with no instructions"),
        ("FROM scratch\nRUN <<E\nx", 2, "unterminated heredoc"),
        ("FROM a b", 1, "FROM requires either one argument, or three"),
        ("FROM a AS 1x", 1, 'invalid name for build stage: "1x"'),
        ("FROM a AS x\nFROM b AS X", 2, 'duplicate name "x"'),
        ("FROM scratch\nENV a", 2, "ENV must have two arguments"),
        ("FROM scratch\nENV a=b c", 2, "can't find = in \"c\""),
        ("FROM scratch\nENV =b", 2, "ENV names can not be blank"),
        ("FROM scratch\nLABEL", 2, "LABEL requires at least one argument"),
        ("FROM scratch\nCMD [1]", 2, "arrays must be comprised of strings only"),
        ("FROM scratch\nSHELL /bin/sh", 2, "SHELL requires the arguments to be in JSON form"),
        ("FROM scratch\nRUN", 2, "RUN requires at least one argument"),
        ("FROM scratch\nRUN --mount=type=cache,target=/x y", 2, "RUN --mount is not supported yet"),
        ("FROM scratch\nRUN --network=other y", 2, "invalid network mode"),
        ("FROM scratch\nRUN --security=insecure y", 2, "never run privileged"),
        ("FROM scratch\nCOPY --parents a b", 2, "COPY --parents is not supported yet"),
        ("FROM scratch\nCOPY --form=x a b", 2, "unknown flag: --form"),
        ("FROM scratch\nCOPY --from a b", 2, "missing a value on flag: --from"),
        ("FROM scratch\nCOPY --from=a --from=b a b", 2, "duplicate flag specified: --from"),
        ("FROM scratch\nCOPY --link=maybe a b", 2, "expecting boolean value for flag --link"),
        ("FROM scratch\nCOPY a <<E\nE", 2, "cannot accept a heredoc as a destination"),
        ("FROM scratch\nONBUILD ONBUILD RUN x", 2, "Chaining ONBUILD"),
        ("FROM scratch\nONBUILD FROM x", 2, "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM scratch\nONBUILD FRM x", 2, "unknown instruction: FRM"),
        ("FROM scratch\nHEALTHCHECK x", 2, 'Unknown type "x" in HEALTHCHECK (try CMD)'),
        ("FROM scratch\nHEALTHCHECK CMD", 2, "Missing command after HEALTHCHECK CMD"),
        ("FROM scratch\nHEALTHCHECK NONE x", 2, "HEALTHCHECK NONE takes no arguments"),
        ("FROM scratch\nHEALTHCHECK --interval=3 CMD x", 2, 'invalid duration "3"'),
        ("FROM scratch\nHEALTHCHECK --interval=3us CMD x", 2, "cannot be less than 1ms"),
        ("FROM scratch\nHEALTHCHECK --retries=-1 CMD x", 2, "cannot be negative"),
        ("FROM scratch\nVOLUME [\"\"]", 2, "VOLUME specified can not be an empty string"),
        ("# escape=x\nFROM y", 1, "invalid escape token 'x'"),
        ("# escape=`\n# escape=`\nFROM y", 2, "only one escape parser directive"),
    ],
)
def test_errors_name_file_line_and_what_was_expected(text: str, line: int, words: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        grammar.plan(dockerfile.parse(text.encode(), "sub/Dockerfile"))
    assert str(caught.value).startswith(f"dockerfile parse error on sub/Dockerfile:{line}: ")
    assert words in str(caught.value)


def test_bytes_that_are_no_text() -> None:
    assert dockerfile.parse(b"# caf\xe9\nFROM x").nodes
    with pytest.raises(DockerfileError, match="Dockerfile:2: the instruction holds bytes that are not UTF-8"):
        dockerfile.parse(b"FROM x\nENV a=caf\xe9")
    with pytest.raises(InvalidArgument, match="larger than"):
        dockerfile.parse(b"#" * (dockerfile.MAX_DOCKERFILE + 1))


def test_instructions_as_values() -> None:
    run, shell, health, trigger = instructions(
        'RUN --network=none echo "a"\nCMD ["a", "b"] ignored\n'
        "HEALTHCHECK --interval=1m30s --retries=3 --timeout=0 CMD curl x\nONBUILD COPY <<E /x\n1\nE\n"
    )
    assert isinstance(run, Run) and (run.arguments, run.exec, run.network) == (('echo "a"',), False, "none")
    assert isinstance(shell, Cmd) and (shell.arguments, shell.exec) == (("a", "b"), True)
    assert isinstance(health, Healthcheck) and health.health.test == ["CMD-SHELL", "curl x"]
    assert (health.health.interval, health.health.timeout, health.health.retries) == (90 * 10**9, None, 3)
    assert isinstance(trigger, OnBuild) and trigger.trigger == "COPY <<E /x\n1\nE"
    again = grammar.parse_trigger(trigger.trigger, "image")
    assert isinstance(again, Copy) and again.contents == (Heredoc("E", "1\n"),)


def test_copy() -> None:
    copy, add = instructions(
        "COPY --from=build --chown=a:b --chmod=755 --exclude=*.o --exclude=x one two /dir/\nADD [\"a b\", \"c\"]"
    )
    assert isinstance(copy, Copy) and isinstance(add, Copy)
    assert (copy.sources, copy.destination, copy.origin) == (("one", "two"), "/dir/", "build")
    assert (copy.chown, copy.chmod, copy.exclude, copy.unpack) == ("a:b", "755", ("*.o", "x"), False)
    assert (add.sources, add.destination, add.unpack) == (("a b",), "c", True)


def test_stages() -> None:
    made = plan("ARG v=1\nFROM a:$v AS One\nRUN x\nFROM --platform=linux/amd64 One\n")
    assert [arg.pairs for arg in made.arguments] == [(("v", "1"),)]
    assert [(stage.base.image, stage.base.name, stage.base.platform) for stage in made.stages] == [
        ("a:$v", "one", None), ("One", None, "linux/amd64"),
    ]
    assert isinstance(made.stages[0].base, From)


def test_deep_json_is_no_json() -> None:
    assert words.json_form("[" * 100_000) is None
    assert words.json_form('["\\ud800"]') == ["\ufffd"]


def _theirs(text: str) -> list[tuple[object, ...]] | None:
    try:
        commands = oracle.parse_string(text)
    except Exception:
        return None
    return [
        (
            (c.cmd or "").upper(), c.start_line, c.end_line, tuple(_in_utf8(flag) for flag in c.flags),
            [(h.name, h.content) for h in c.heredocs],
        )
        for c in commands  # the heredocs of ONBUILD's instruction they do not tell
    ]


def _in_utf8(flag: str) -> str:
    """Their parser takes each byte of a flag for a character: their "é" is two. Ours reads what was written."""
    return flag.encode("latin-1").decode()


def _ours(text: str) -> list[tuple[object, ...]] | None:
    try:
        source = dockerfile.parse(text.encode())
        for node in source.nodes:  # what their parser checks while it reads
            if node.keyword in ("CMD", "RUN", "COPY", "ADD", "SHELL", "ENTRYPOINT", "VOLUME"):
                words.json_form(node.arguments)
            elif node.keyword in ("ENV", "LABEL"):
                words.name_values(node.arguments, source.escape, node.keyword)
            elif node.keyword == "ONBUILD":
                _ours(node.arguments)
    except InvalidArgument:
        return None
    return [
        (n.keyword, n.line, n.end_line, _flags(n), [(h.name, h.content) for h in n.heredocs if n.keyword != "ONBUILD"])
        for n in source.nodes
    ]


def _flags(node: dockerfile.Node) -> tuple[str, ...]:
    """They report the flags of ONBUILD's instruction as ONBUILD's."""
    if node.keyword != "ONBUILD":
        return node.flags
    return node.flags + dockerfile.split_line(node.arguments)[1]


_PIECES = [
    "RUN", "COPY", "ENV", "CMD", "LABEL", "FROM", "ARG", "ONBUILD", "HEALTHCHECK", "VOLUME", "x", "a=b", "=", "$A",
    " ", "  ", "\t", "\n", "\r\n", "\\\n", "\\", "`", "#", "# escape=`\n", "# syntax = x\n", '"', "'", "[", "]",
    '["a", "b"]', ",", "--flag=1", "--", "--from='x y'", "<<E", "<<-E", '<<"E"', "<<E E", "\nE\n", "\tE\n",
    "é", "{", "}",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=25).map("".join))
@example("RUN a \\\n#c\n\\\n b")
@example("RUN <<E <<E\n1\nE\n2\nE\n")
@example("ONBUILD RUN <<E\nx\nE\n")
@example("RUN --flag=1é")
def test_same_as_buildkits_parser(text: str) -> None:
    assert _ours(text) == _theirs(text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab= \t\"'\\\\$", max_size=20), st.sampled_from(["ENV", "LABEL"]))
def test_pairs_same_as_buildkits(text: str, keyword: str) -> None:
    line = f"{keyword} x{text}."
    try:
        values = list(oracle.parse_string(line)[0].value)
    except Exception:
        with pytest.raises(InvalidArgument):
            words.name_values(f"x{text}.", "\\", keyword)
        return
    theirs = [tuple(values[at : at + 2]) for at in range(0, len(values), 2)]
    assert words.name_values(f"x{text}.", "\\", keyword) == theirs


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_plan_or_one_error(data: bytes) -> None:
    try:
        grammar.plan(dockerfile.parse(data))
    except InvalidArgument as error:
        assert "\n" not in str(error)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=25).map("".join))
def test_any_text_is_a_plan_or_one_error(text: str) -> None:
    try:
        grammar.plan(dockerfile.parse(("FROM scratch\n" + text).encode()))
    except InvalidArgument as error:
        assert "dockerfile parse error on Dockerfile:" in str(error)
