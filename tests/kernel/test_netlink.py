"""rtnetlink and nftables against the kernel: what they make, and how they fail."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

import netlab
from sampan.errors import InvalidArgument
from sampan.linux import netlink, rtnetlink
from sampan.linux.nftables import Nft, NftError, RulesetWatch
from sampan.linux.rtnetlink import LinkWatch, RouteSocket


@pytest.fixture
def lab() -> Iterator[tuple[RouteSocket, int]]:
    """A namespace of its own, with a socket inside; the thread itself stays on the host."""
    with netlab.new_namespace() as namespace:
        routes = RouteSocket()
        with routes:
            yield routes, namespace


def test_bridge_veth_address_route(lab: tuple[RouteSocket, int]) -> None:
    routes, _ = lab
    routes.run(rtnetlink.create_bridge("br0", "02:00:00:00:00:01"))
    bridge = routes.index("br0")
    with netlab.new_namespace() as other, RouteSocket() as there:
        routes.run(
            rtnetlink.create_veth("port0", "eth0", other, 1400, "02:00:00:00:00:02"),
            rtnetlink.plug("port0", bridge),
            rtnetlink.set_link(bridge, up=True, mtu=1300, alias="mine"),
            rtnetlink.set_link(1, up=True),
            rtnetlink.add_address(bridge, "10.9.8.1", 24),
        )
        port = next(link for link in routes.links(master=bridge))
        assert (port.name, port.kind, port.up, port.mtu) == ("port0", "veth", True, 1400)
        inner = next(link for link in there.links() if link.name == "eth0")
        assert (inner.mac, inner.mtu, inner.up) == ("02:00:00:00:00:02", 1400, False)
        there.run(
            rtnetlink.set_link(inner.index, up=True), rtnetlink.add_address(inner.index, "10.9.8.2", 24),
            rtnetlink.add_default_route("10.9.8.1"),
        )
        (default,) = [route for route in there.routes() if not route.prefix]
        assert (default.gateway, default.index) == ("10.9.8.1", inner.index)
        there.run(rtnetlink.set_link(inner.index, up=False))
        there.run(rtnetlink.set_link(inner.index, name="net0", mac="02:00:00:00:00:03"))
        assert "02:00:00:00:00:03" in [link.mac for link in there.links() if link.name == "net0"]
    found = next(link for link in routes.links() if link.name == "br0")
    assert (found.kind, found.mtu, found.mac, found.alias) == ("bridge", 1300, "02:00:00:00:00:01", "mine")
    assert (bridge, "10.9.8.1", 24) in [(a.index, a.ip, a.prefix) for a in routes.addresses()]
    routes.run(rtnetlink.delete_link(bridge))
    assert "br0" not in [link.name for link in routes.links()]


def test_errors_say_what_was_asked_for_and_why(lab: tuple[RouteSocket, int]) -> None:
    routes, _ = lab
    with pytest.raises(OSError, match=r"^.Errno 19. delete network device 4711: No such device$"):
        routes.run(rtnetlink.delete_link(4711))
    with pytest.raises(OSError, match=r"add default route by 10\.1\.1\.1: .*(\(|: )Network is unreachable"):
        routes.run(rtnetlink.add_default_route("10.1.1.1"))
    with pytest.raises(OSError, match="No such device: 'nowhere'") as failure:
        routes.index("nowhere")
    assert failure.value.errno == errno.ENODEV


def test_kernels_own_explanation_is_shown(lab: tuple[RouteSocket, int]) -> None:
    routes, _ = lab
    routes.run(rtnetlink.create_bridge("br0", "02:00:00:00:00:01"))
    index = routes.index("br0")
    with pytest.raises(OSError, match=rf"change network device {index}: mtu less than device minimum \(Invalid arg"):
        routes.run(rtnetlink.set_link(index, mtu=20))


def test_first_failure_of_a_batch_is_raised_and_the_socket_stays_usable(lab: tuple[RouteSocket, int]) -> None:
    routes, _ = lab
    with pytest.raises(OSError, match="delete network device 98"):
        routes.run(
            rtnetlink.set_link(1, up=True), rtnetlink.delete_link(98), rtnetlink.delete_link(99),
            rtnetlink.create_bridge("br0", "02:00:00:00:00:01"),
        )
    assert {link.name for link in routes.links() if link.name in ("lo", "br0")} == {"lo", "br0"}
    routes.run()
    routes.run(rtnetlink.delete_link(routes.index("br0")))


def test_many_devices_are_listed(lab: tuple[RouteSocket, int]) -> None:
    """More than one datagram of the kernel's holds."""
    routes, _ = lab
    routes.run(*(rtnetlink.create_bridge(f"br{i}", f"02:00:00:00:00:{i:02x}") for i in range(60)))
    assert {f"br{i}" for i in range(60)} <= {link.name for link in routes.links()}


def test_watch_tells_of_a_new_device(lab: tuple[RouteSocket, int]) -> None:
    routes, namespace = lab
    with netlab.inside(namespace):
        watch = LinkWatch()
    watch.drain()
    routes.run(rtnetlink.create_bridge("br0", "02:00:00:00:00:01"))
    assert watch._sock.recv(1 << 16, socket.MSG_PEEK)
    watch.drain()
    with pytest.raises(BlockingIOError):
        watch._sock.recv(1 << 16)
    watch.close()


def test_length_that_would_wrap_is_refused_cve_2021_43784() -> None:
    assert len(netlink.attribute(1, bytes(0xFFFF - 4))) == 0x10000
    with pytest.raises(OverflowError, match="65535"):
        netlink.attribute(1, bytes(0xFFFF - 3))
    with pytest.raises(OverflowError):
        netlink.nested(1, netlink.attribute(1, bytes(40000)), netlink.attribute(1, bytes(40000)))
    with pytest.raises(ValueError, match="NUL"):
        netlink.text(1, "a\0b")


@pytest.mark.parametrize("name", ["", "x" * 16, "a/b", "a b", "..", "a\n", 'a"b', "ä"])
def test_bad_device_names(name: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid network device name"):
        rtnetlink.check_name(name)


@pytest.mark.parametrize("mac", ["", "02:00:00:00:00", "02:00:00:00:00:0", "02:00:00:00:00:zz", "03:00:00:00:00:01"])
def test_bad_hardware_addresses(mac: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid MAC address"):
        rtnetlink.check_mac(mac)


@pytest.mark.parametrize("data", [b"\x03\0\1\0", b"\xff\0\1\0", b"\0\0\0\0"])
def test_attributes_cut_short_are_refused(data: bytes) -> None:
    with pytest.raises(OSError, match="wrong length"):
        netlink.attributes(data)


def test_nft_text_json_and_errors(lab: tuple[RouteSocket, int]) -> None:
    _, namespace = lab
    with netlab.inside(namespace):
        nft, watch = Nft(), RulesetWatch()
    nft.run("add table ip one\nadd set ip one s { type ipv4_addr; }\nadd element ip one s { 10.0.0.1 }")
    assert "elements = { 10.0.0.1 }" in nft.run("list set ip one s")
    (table,) = [item["table"]["name"] for item in nft.query("list tables") if "table" in item]
    assert table == "one" and watch.read() == {("one", False)}
    with pytest.raises(NftError, match=r"^nftables: syntax error, unexpected"):
        nft.run("add nonsense")
    with pytest.raises(NftError, match=r"^nftables: .*No such file or directory"):
        nft.run("add table ip two\ndelete element ip one s { 10.0.0.2 }")
    assert "two" not in nft.run("list tables"), "half of a transaction took effect"
    assert nft.run("delete table ip one") == ""
    assert ("one", True) in watch.read()
    watch.close()
    nft.close()
    nft.close()
