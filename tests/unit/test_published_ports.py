"""The pure half of published ports: what may be asked for, and the nft text it becomes."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from sampan.errors import InvalidArgument
from sampan.network import ports, ruleset
from sampan.network.endpoint import PortMapping


@pytest.mark.parametrize(
    "port",
    [
        PortMapping("icmp", "", 80, 80), PortMapping("tcp", "", 80, 0), PortMapping("tcp", "", 65536, 80),
        PortMapping("tcp", "", -1, 80), PortMapping("tcp", "", 80, 70000), PortMapping("tcp", "localhost", 80, 80),
        PortMapping("tcp", "::", 80, 80), PortMapping("tcp", "", 90, 80, host_port_end=80),
        PortMapping("tcp } ", "", 80, 80),
    ],
)
def test_what_can_never_be_published(port: PortMapping) -> None:
    with pytest.raises(InvalidArgument):
        ports.check(port)


def test_every_address_is_the_default() -> None:
    assert ports.check(PortMapping("tcp", "", 0, 80)).host_ip == "0.0.0.0"


def test_elements_by_map() -> None:
    everywhere, local = PortMapping("tcp", "0.0.0.0", 8080, 80), PortMapping("udp", "127.0.0.1", 53, 53)
    assert ruleset.publish("br0", [everywhere, local], "10.0.0.2") == (
        "add element ip sampan_br0 published { 6 . 8080 : 10.0.0.2 . 80 }\n"
        "add element ip sampan_br0 published_at { 127.0.0.1 . 17 . 53 : 10.0.0.2 . 53 }\n"
    )
    assert ruleset.unpublish("br0", [local]) == "delete element ip sampan_br0 published_at { 127.0.0.1 . 17 . 53 }\n"
    assert ruleset.publish("br0", [], "10.0.0.2") == ""


def test_whole_table_is_one_transaction_with_all_ports() -> None:
    text = ruleset.replace("br0", IPv4Network("10.0.0.0/24"), {PortMapping("tcp", "0.0.0.0", 8080, 80): "10.0.0.2"})
    assert text.startswith("add table ip sampan_br0\ndelete table ip sampan_br0\ntable ip sampan_br0 {")
    assert "elements = { 6 . 8080 : 10.0.0.2 . 80 }" in text and "{published" not in text
