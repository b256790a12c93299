from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument, Unavailable
from sampan.network.addresses import AddressPool


def pool(bip: str = "10.0.0.1/29", present: set[str] | None = None) -> AddressPool:
    devices = present if present is not None else set()
    return AddressPool(bip, devices.__contains__)


def test_in_turn_without_the_bridges_own() -> None:
    addresses = pool("10.0.0.3/29")
    assert [addresses.take() for _ in range(addresses.capacity)] == [f"10.0.0.{i}" for i in (1, 2, 4, 5, 6)]
    with pytest.raises(Unavailable, match=r"no available IPv4 addresses in the subnet 10\.0\.0\.0/29"):
        addresses.take()


def test_not_again_before_all_others() -> None:
    addresses = pool()
    first = addresses.take()
    addresses.give_back(first, "veth0")
    assert [addresses.take() for _ in range(5)] == ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"]


def test_not_before_its_device_is_gone() -> None:
    devices = {"veth0"}
    addresses = pool(present=devices)
    taken = [addresses.take() for _ in range(5)]
    addresses.give_back(taken[0], "veth0")
    with pytest.raises(Unavailable):
        addresses.take()
    assert addresses.is_waiting
    devices.clear()
    assert addresses.take() == taken[0]
    assert not addresses.is_waiting


def test_claimed_are_not_handed_out() -> None:
    addresses = pool()
    addresses.claim("10.0.0.3")
    assert [addresses.take() for _ in range(4)] == ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"]
    with pytest.raises(InvalidArgument, match="not in the subnet"):
        addresses.claim("10.0.1.3")


@pytest.mark.parametrize(
    "bip", ["", "10.0.0.1/33", "10.0.0.1/31", "10.0.0.0/24", "10.0.0.255/24", "fd00::1/64", "x/24"]
)
def test_bad_bridge_addresses(bip: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid bridge address"):
        pool(bip)


@given(st.lists(st.booleans(), max_size=60))
def test_never_twice_at_a_time(moves: list[bool]) -> None:
    addresses, out = pool("10.0.0.1/28"), []
    for take in moves:
        if take and len(out) < addresses.capacity:
            got = addresses.take()
            assert got not in out and got != "10.0.0.1"
            out.append(got)
        elif out:
            addresses.give_back(out.pop(0), "gone")
