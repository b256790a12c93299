"""The predefined networks in Docker's schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.engine import lifecycle
from sampan.engine.container import Container
from sampan.engine.index import Index
from sampan.engine.networks import Networks
from sampan.engine.options import Options
from sampan.engine.record import Endpoint, Record
from sampan.engine.state import State
from sampan.errors import Forbidden, InvalidArgument, NotFound, SampanError, Unsupported


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(tmp_path / "state.db")
    yield state
    state.close()


def test_ids_are_kept(state: State) -> None:
    first, second = (Networks(state, Options(), Index()) for _ in range(2))
    assert first.id("bridge") == second.id("bridge") and len(first.id("host")) == 64
    assert first.name(first.id("none")[:12]) == "none"
    for ref in ("nope", "", "/"):
        with pytest.raises(NotFound, match=r"network .* not found"):
            first.name(ref)


def test_inspect_shows_who_is_in_it(state: State) -> None:
    index = Index()
    endpoint = Endpoint("172.31.0.2", 16, "172.31.0.1", "02:42:ac:1f:00:02", "veth1", "e" * 64)
    for id, mode, status in (("a" * 64, "default", lifecycle.RUNNING), ("b" * 64, "host", lifecycle.RUNNING),
                             ("c" * 64, "default", lifecycle.EXITED)):
        index.add(Container(Record(
            id, id[:3], 1, "i", "i", {}, {"NetworkMode": mode}, status=status,
            endpoint=endpoint if mode == "default" else None,
        )))
    networks = Networks(state, Options(bip="172.31.0.1/16", bridge="br-test"), index)
    bridge = networks.inspect("bridge")
    assert bridge["IPAM"]["Config"] == [{"Subnet": "172.31.0.0/16", "Gateway": "172.31.0.1"}]
    assert bridge["Options"]["com.docker.network.bridge.name"] == "br-test"
    assert bridge["Containers"] == {"a" * 64: {
        "Name": "aaa", "EndpointID": "e" * 64, "MacAddress": "02:42:ac:1f:00:02", "IPv4Address": "172.31.0.2/16",
        "IPv6Address": "",
    }}
    assert list(networks.inspect("host")["Containers"]) == ["b" * 64]
    assert networks.list({"name": ["bridge"]})[0]["Containers"] == {}


def test_filters(state: State) -> None:
    networks = Networks(state, Options(), Index())
    names = [network["Name"] for network in networks.list({"driver": ["null"]})]
    assert names == ["none"] and networks.list({"type": ["custom"]}) == []
    assert [it["Name"] for it in networks.list({"id": [networks.id("host")[:10]]})] == ["host"]
    assert networks.list({"dangling": ["true"]}) == [] and networks.list({"label": ["a"]}) == []
    with pytest.raises(InvalidArgument, match="invalid filter 'x'"):
        networks.list({"x": ["y"]})


@pytest.mark.parametrize(("action", "kind", "message"), [
    (lambda it: it.create({"Name": "mine"}), Unsupported, "not supported yet"),
    (lambda it: it.connect("bridge"), Unsupported, "not supported yet"),
    (lambda it: it.disconnect("bridge"), Unsupported, "not supported yet"),
    (lambda it: it.remove("bridge"), Forbidden, "bridge is a pre-defined network and cannot be removed"),
    (lambda it: it.remove("mine"), NotFound, "network mine not found"),
])
def test_what_cannot_be_done(
    state: State, action: Callable[[Networks], object], kind: type[SampanError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        action(Networks(state, Options(), Index()))


def test_prune_leaves_them_all(state: State) -> None:
    networks = Networks(state, Options(), Index())
    assert networks.prune({"until": ["1h"]}) == {"NetworksDeleted": None} and len(networks.list()) == 3
