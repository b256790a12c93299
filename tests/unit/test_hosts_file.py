from __future__ import annotations

import pytest

from sampan.errors import InvalidArgument
from sampan.network import hosts


def test_own_names_at_own_address() -> None:
    extra = ["db:10.0.0.9", "up:host-gateway"]
    text = hosts.container_file("web", "example.org", "10.0.0.2", extra, gateway="10.0.0.1")
    assert text.splitlines()[0] == "127.0.0.1\tlocalhost"
    assert text.splitlines()[-3:] == ["10.0.0.9\tdb", "10.0.0.1\tup", "10.0.0.2\tweb.example.org web"]


def test_without_network() -> None:
    assert "web" not in hosts.container_file("web")


def test_dotted_host_name_has_its_short_form() -> None:
    assert hosts.container_file("web.example.org", "", "10.0.0.2").endswith("10.0.0.2\tweb.example.org web\n")


def test_host_network_has_the_hosts_file() -> None:
    assert hosts.host_network_file("1.2.3.4 me", ["db:10.0.0.9"]) == "1.2.3.4 me\n10.0.0.9\tdb\n"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("a:10.0.0.1", ("a", "10.0.0.1")), ("a=10.0.0.1", ("a", "10.0.0.1")), ("a:::1", ("a", "::1")),
        ("a:[fd00::1]", ("a", "fd00::1")), ("a=fd00::1", ("a", "fd00::1")), ("a:host-gateway", ("a", "172.17.0.1")),
    ],
)
def test_extra_hosts(entry: str, expected: tuple[str, str]) -> None:
    assert hosts.parse_extra(entry, "172.17.0.1") == expected


@pytest.mark.parametrize(
    "entry", ["", "a", ":1.2.3.4", "a:", "a:b", "a:1.2.3", "a b:1.2.3.4", "a\n6.6.6.6 b:1.2.3.4", "a#:1.2.3.4"]
)
def test_bad_extra_hosts(entry: str) -> None:
    with pytest.raises(InvalidArgument):
        hosts.parse_extra(entry)


def test_host_gateway_needs_one() -> None:
    with pytest.raises(InvalidArgument, match="unable to derive the IP value for host-gateway"):
        hosts.parse_extra("a:host-gateway")
