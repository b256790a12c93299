"""Instructions that only change the config: what they make of it, and what the history says; the arguments they see."""

from __future__ import annotations

import pytest

from sampan.build import dockerfile, grammar, metadata, stage
from sampan.build.arguments import Arguments
from sampan.build.cache import key_of
from sampan.build.duration import parse_duration
from sampan.build.metadata import Words
from sampan.build.options import BuildOptions
from sampan.errors import InvalidArgument, Unsupported
from sampan.oci.image import ContainerConfig, ImageConfig


def applied(text: str, **variables: str) -> tuple[ContainerConfig, list[str]]:
    image = ImageConfig(os="linux", architecture="amd64")
    said = []
    for node in dockerfile.parse(text.encode()).nodes:
        said.append(metadata.apply(image, grammar.parse(node, "Dockerfile"), Words(variables)))
    return metadata.settings(image), said


def test_env_replaces_in_place() -> None:
    config, said = applied("ENV a=1 b=2\nENV a=$x c\\ d='$x'", x="X")
    assert config.env == ["a=X", "b=2", "c d=$x"]
    assert said == ["ENV a=1 b=2", "ENV a=X c d=$x"]


def test_expose() -> None:
    config, said = applied("EXPOSE 80 53/UDP $more", more="8000-8002/sctp 9")
    assert set(config.exposed_ports or ()) == {"80/tcp", "53/udp", "8000/sctp", "8001/sctp", "8002/sctp", "9/tcp"}
    assert said == ["EXPOSE 8000-8002/sctp 9 53/UDP 80"]
    for bad in ("0", "80-70", "65536", "-1", "٨٠", "1-2-3", "80/tcp/udp"):
        with pytest.raises(InvalidArgument, match=r"invalid (containerPort|proto): "):
            applied(f"EXPOSE {bad}")


@pytest.mark.parametrize("good", ["9", "64", "SIGTERM", "term", "SigWinch", "RTMIN", "SIGRTMIN+15", "rtmax-14"])
def test_signals(good: str) -> None:
    assert applied(f"STOPSIGNAL {good}")[0].stop_signal == good


@pytest.mark.parametrize("bad", ["0", "65", "SIGNOPE", "RTMIN+16", "RTMAX-15", "-9", "SIG", "١"])
def test_no_signals(bad: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid signal: "):
        applied(f"STOPSIGNAL {bad}")


def test_quoted_as_go_does() -> None:
    config, said = applied('CMD ["a\\"b\\\\", "\\t\\u0000\\u0007é\\u200b\\ud83d\\ude00"]')
    assert config.cmd == ['a"b\\', "\t\0\aé\u200b\U0001f600"]
    assert said == ['CMD ["a\\"b\\\\" "\\t\\x00\\aé\\u200b\U0001f600"]']


def test_healthcheck_in_the_history() -> None:
    _, said = applied("HEALTHCHECK --interval=1h1m1.5s --timeout=20ms --start-period=1m --retries=3 CMD a")
    assert said == ["HEALTHCHECK &{[\"CMD-SHELL\" \"a\"] \"1h1m1.5s\" \"20ms\" \"1m0s\" \"0s\" '\\x03'}"]


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("0", 0), ("1s", 10**9), ("1m30s", 90 * 10**9), ("1.5h", 5400 * 10**9), (".5s", 5 * 10**8), ("-2ms", -2 * 10**6),
     ("+1us", 1000), ("1µs", 1000), ("3ns", 3)],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("bad", ["", "1", "s", "1x", "1 s", "--1s", "1e3s", "9" * 30 + "s", "9999999h", "１s"])
def test_no_durations(bad: str) -> None:
    with pytest.raises(InvalidArgument, match="time: invalid duration"):
        parse_duration(bad)


def test_arguments_by_scope() -> None:
    arguments = Arguments({"given": "cli", "gone": None, "HTTP_PROXY": "p", "extra": "x"}, {"TARGETARCH": "amd64"})
    arguments.declare_global("base", "b")
    arguments.declare_global("given", "default")
    assert arguments.globals() == {"TARGETARCH": "amd64", "base": "b", "given": "cli"}
    arguments.enter_stage()
    assert arguments.visible() == {"HTTP_PROXY": "p"}
    for name, default in (("base", None), ("given", None), ("gone", "default"), ("own", "o"), ("TARGETARCH", None)):
        arguments.declare(name, default)
    visible = arguments.visible(["own"])
    assert visible == {"HTTP_PROXY": "p", "base": "b", "given": "cli", "TARGETARCH": "amd64"}
    assert arguments.counted(visible) == ["TARGETARCH=amd64", "base=b", "given=cli"], "a proxy does not count"
    assert arguments.unused() == ["extra"]
    arguments.declare("HTTP_PROXY", None)
    assert "HTTP_PROXY=p" in arguments.counted(arguments.visible())
    arguments.enter_stage()
    assert arguments.visible() == {"HTTP_PROXY": "p"}


def test_a_step_leaves_the_state_before_it_alone() -> None:
    state, triggers = stage.begin(ImageConfig(os="linux", config=ContainerConfig(on_build=["RUN x"], env=["A=1"])), [],
        "id")
    assert triggers == ["RUN x"] and state.config.on_build is None
    assert state.config.env == ["A=1", f"PATH={metadata.DEFAULT_PATH}"]
    draft = state.draft()
    metadata.settings(draft).env = ["B=2"]
    config, layers, image_id = stage.finished(draft, [], None, "made by me")
    assert state.config.env != ["B=2"] and layers == [] and image_id.startswith("sha256:")
    assert [entry.created_by for entry in config.history or []] == ["made by me"]
    assert state.image.history is None


def test_keys_differ_where_the_parts_do() -> None:
    keys = {key_of("p", "a", "b"), key_of("p", "ab"), key_of("p", ["a", "b"]), key_of("pa", "b"),
        key_of("p", "a", None)}
    assert len(keys) == 5


def test_options_that_cannot_be() -> None:
    BuildOptions(platform="linux/amd64").check("linux/amd64")
    BuildOptions(platform="amd64").check("linux/amd64")
    for options in (BuildOptions(squash=True), BuildOptions(pull=True), BuildOptions(platform="linux/arm64")):
        with pytest.raises(Unsupported):
            options.check("linux/amd64")
    with pytest.raises(InvalidArgument):
        BuildOptions(dockerfile="").check("linux/amd64")
