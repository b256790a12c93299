"""Docker's names of images."""

from __future__ import annotations

import time

import pytest

from sampan.errors import InvalidArgument
from sampan.image import reference

HEX = "a" * 64


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("user/app", "docker.io/user/app", "user/app"),
        ("docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/app:v1", "localhost/app:v1", "localhost/app:v1"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("registry.example.com:443/a/b-c_d__e.f:T", "registry.example.com:443/a/b-c_d__e.f:T", None),
        ("[fe80::1]:5000/app", "[fe80::1]:5000/app", None),
        ("UPPER/app", "UPPER/app", None),
        (f"busybox@sha256:{HEX}", f"docker.io/library/busybox@sha256:{HEX}", f"busybox@sha256:{HEX}"),
        (f"busybox:x@sha256:{HEX}", f"docker.io/library/busybox:x@sha256:{HEX}", f"busybox:x@sha256:{HEX}"),
    ],
)
def test_names(text: str, full: str, familiar: str | None) -> None:
    parsed = reference.parse(text)
    assert str(parsed) == full
    assert parsed.familiar == (familiar or full)
    assert reference.parse(parsed.familiar) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "repository name must have at least one component"),
        ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
        ("busybox:", "invalid reference format"),
        ("busybox:-x", "invalid reference format"),
        ("busybox:" + "x" * 129, "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("/a", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("../etc", "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("-host.com/app", "invalid reference format"),
        ("http://host/app", "invalid reference format"),
        ("busybox@sha256:abc", "invalid checksum digest length"),
        ("busybox@md5:abc", "unsupported digest algorithm"),
        ("busybox@", "invalid reference format"),
        (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
        ("a/" * 127 + "ab", "repository name must not be more than 255 characters"),
        ("a" * 5000, "invalid reference format"),
        ("\u0661", "invalid reference format"),
        ("a:\u0661", "invalid reference format"),
    ],
)
def test_what_is_no_name(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        reference.parse(text)
    assert str(error.value) == message


def test_tags() -> None:
    assert reference.parse_tag("busybox").familiar == "busybox:latest"
    with pytest.raises(InvalidArgument, match="digest reference"):
        reference.parse_tag(f"busybox@sha256:{HEX}")


@pytest.mark.parametrize(("text", "hex_digits"), [("abc", "abc"), (f"sha256:{HEX}", HEX), ("abx", ""), ("ABC", "")])
def test_id_prefix(text: str, hex_digits: str) -> None:
    assert reference.id_prefix(text) == hex_digits


@pytest.mark.parametrize("text", ["a" + "-" * 1020 + "!", "a." * 500 + "!", "_" * 1020, "a_" * 510 + "/!"])
def test_no_backtracking(text: str) -> None:
    begin = time.process_time()
    with pytest.raises(InvalidArgument):
        reference.parse(text)
    assert time.process_time() - begin < 0.1
