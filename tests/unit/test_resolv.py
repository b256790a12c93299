from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.network import resolv

HOST = """\
# made by somebody
domain old.example
nameserver 10.0.0.53
nameserver fe80::1%eth0
  nameserver   127.0.0.1
search example.org corp.example
options ndots:2
options edns0
sortlist 130.155.160.0/255.255.240.0
"""


def test_host_file_without_what_cannot_be_reached() -> None:
    assert resolv.container_file(HOST) == (
        "nameserver 10.0.0.53\nsearch example.org corp.example\noptions ndots:2 edns0\n"
        "sortlist 130.155.160.0/255.255.240.0\n"
    )


def test_host_network_keeps_all_servers() -> None:
    text = resolv.container_file(HOST, own_network=False)
    assert text.count("nameserver") == 3 and "127.0.0.1" in text


def test_given_values_replace_the_hosts() -> None:
    servers = ["127.0.0.1", "FD00::53"]
    text = resolv.container_file(HOST, dns=servers, search=["a.example"], options=["ndots:0", "debug"])
    assert text.startswith("nameserver 127.0.0.1\nnameserver fd00::53\nsearch a.example\noptions ndots:0 debug\n")


def test_search_dot_is_none() -> None:
    assert "search" not in resolv.container_file(HOST, search=["."])


@pytest.mark.parametrize(
    "host", ["", "nameserver 127.0.0.53\n", "nameserver ::1\nnameserver 0.0.0.0\n", "nameserver x\n"]
)
def test_falls_back_when_nothing_is_left(host: str) -> None:
    assert resolv.container_file(host) == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def test_stub_of_systemd_resolved() -> None:
    assert resolv.uses_stub("nameserver 127.0.0.53\noptions edns0 trust-ad\n")
    assert not resolv.uses_stub("nameserver 127.0.0.53\nnameserver 10.0.0.1\n")


@pytest.mark.parametrize("dns", ["", "localhost", "8.8.8.8\nnameserver 6.6.6.6", "8.8.8"])
def test_bad_servers(dns: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid DNS server address"):
        resolv.container_file(HOST, dns=[dns])


@pytest.mark.parametrize("value", ["", "a b", "a\nnameserver 6.6.6.6", "a\tb", "x" * 1025, "a\x00"])
def test_bad_words(value: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid value for dns-search"):
        resolv.container_file(HOST, search=[value])
    with pytest.raises(InvalidArgument, match="invalid value for dns-option"):
        resolv.container_file(HOST, options=[value])


@given(st.text(max_size=300))
def test_any_host_file_gives_a_file_that_says_the_same_again(text: str) -> None:
    once = resolv.container_file(text)
    assert "nameserver" in once
    assert resolv.parse(resolv.render(resolv.parse(once))) == resolv.parse(once)
