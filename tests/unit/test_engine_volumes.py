"""Volumes: records, directories, what uses them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.engine.container import Container
from sampan.engine.events import Events
from sampan.engine.index import Index
from sampan.engine.record import MountPoint, Record
from sampan.engine.state import State
from sampan.engine.trash import Trash
from sampan.engine.volumes import ANONYMOUS, Volumes
from sampan.errors import Conflict, InvalidArgument, NotFound, Unsupported
from sampan.jobs.client import ForkServer


class House:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.worker = ForkServer("sampan.engine.worker")
        self.index = Index()
        self.events = Events()
        (root / "trash").mkdir(exist_ok=True)
        self.trash = Trash(root / "trash", self.worker)
        self.open()

    def open(self) -> None:
        self.state = State(self.root / "state.db")
        self.volumes = Volumes(
            self.state, self.root / "volumes", self.trash, self.worker, self.events, self.index
        )

    def reopen(self) -> None:
        self.state.close()
        self.open()

    def use(self, volume: str, id: str = "c" * 64) -> Container:
        mount = MountPoint("volume", "", "/data", name=volume)
        record = Record(id, "web", 1, "sha256:" + "0" * 64, "x", {}, {}, mounts=[mount])
        container = Container(record)
        self.index.add(container)
        return container


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.worker.close()
    house.state.close()


def _names(found: dict[str, Any]) -> list[str]:
    return [volume["Name"] for volume in found["Volumes"]]


def test_a_volume_is_a_directory_that_survives_the_engine(house: House) -> None:
    made = house.volumes.create({"Name": "data", "Labels": {"tier": "db"}})
    directory = Path(made["Mountpoint"])
    assert directory == house.root / "volumes/data/_data" and directory.is_dir()
    (directory / "file").write_text("kept")
    house.reopen()
    found = house.volumes.inspect("data")
    assert found == made and found["Labels"] == {"tier": "db"} and found["Scope"] == "local"
    assert (directory / "file").read_text() == "kept"
    assert house.volumes.create({"Name": "data"}) == made  # made again is the same one
    assert house.volumes.ensure("data") is False and house.volumes.ensure("other") is True


def test_a_directory_without_a_record_is_a_volume(house: House) -> None:
    house.volumes.create({"Name": "data"})
    house.state.delete("volume", "data")
    house.reopen()
    assert _names(house.volumes.list()) == ["data"]


def test_a_nameless_volume_gets_a_name_and_a_label(house: House) -> None:
    made = house.volumes.create({})
    assert len(made["Name"]) == 64 and made["Labels"] == {ANONYMOUS: ""}


@pytest.mark.parametrize(("body", "kind", "message"), [
    ({"Name": "../etc"}, InvalidArgument, "includes invalid characters for a local volume name"),
    ({"Name": "/etc"}, InvalidArgument, "use absolute path"),
    ({"Name": "a\nb"}, InvalidArgument, "invalid characters"),
    ({"Name": "x"}, InvalidArgument, "too short"),
    ({"Name": "x" * 300}, InvalidArgument, "invalid characters"),
    ({"Name": 7}, InvalidArgument, "invalid volume: "),
    ({"Name": "ok", "Labels": {"a": 1}}, InvalidArgument, "invalid volume: "),
    ({"Name": "ok", "Driver": "nfs"}, NotFound, "error looking up volume plugin nfs"),
    ({"Name": "ok", "DriverOpts": {"type": "tmpfs"}}, Unsupported, "driver options are not supported yet: type"),
])
def test_what_cannot_be_a_volume(house: House, body: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        house.volumes.create(body)
    assert house.volumes.list()["Volumes"] == [] and list((house.root / "volumes").iterdir()) == []


def test_removal_is_refused_while_a_container_uses_it(house: House) -> None:
    async def scene() -> None:
        house.volumes.create({"Name": "data"})
        container = house.use("data")
        with pytest.raises(Conflict, match=r"remove data: volume is in use - \[c{64}\]"):
            house.volumes.remove("data", force=True)
        house.index.remove(container)
        house.volumes.remove("data")
        assert not (house.root / "volumes/data").exists()
        with pytest.raises(NotFound, match="get data: no such volume"):
            house.volumes.remove("data")
        house.volumes.remove("data", force=True)
        await house.trash.settle()
        assert list((house.root / "trash").iterdir()) == []

    asyncio.run(scene())


def test_filters(house: House) -> None:
    house.volumes.create({"Name": "data", "Labels": {"tier": "db"}})
    house.volumes.create({"Name": "cache"})
    house.use("data")
    volumes = house.volumes
    assert _names(volumes.list()) == ["cache", "data"]
    assert _names(volumes.list({"dangling": ["true"]})) == ["cache"]
    assert _names(volumes.list({"dangling": ["0"]})) == ["data"]
    assert _names(volumes.list({"label": ["tier=db"]})) == ["data"]
    assert _names(volumes.list({"name": ["ach"]})) == ["cache"]
    assert _names(volumes.list({"driver": ["nfs"]})) == []
    with pytest.raises(InvalidArgument, match="invalid filter 'colour'"):
        volumes.list({"colour": ["red"]})
    with pytest.raises(InvalidArgument, match="invalid filter 'dangling"):
        volumes.list({"dangling": ["maybe"]})


def test_prune_takes_the_unused_anonymous_ones_first(house: House) -> None:
    async def scene() -> None:
        anonymous, used = house.volumes.anonymous(), house.volumes.anonymous()
        house.use(used)
        house.volumes.create({"Name": "named"})
        (house.volumes.mount_point(anonymous) / "file").write_bytes(b"x" * 1000)
        pruned = await house.volumes.prune()
        assert pruned["VolumesDeleted"] == [anonymous] and pruned["SpaceReclaimed"] >= 1000
        assert (await house.volumes.prune({"all": ["1"]}))["VolumesDeleted"] == ["named"]
        assert _names(house.volumes.list()) == [used]
        usage = await house.volumes.usage()
        assert usage[0]["UsageData"]["RefCount"] == 1
        await house.trash.settle()

    asyncio.run(scene())


def test_events_tell_of_volumes(house: House) -> None:
    async def scene() -> None:
        stream = house.events.subscribe(filters={"type": ["volume"]})
        house.volumes.create({"Name": "data"})
        house.volumes.remove("data")
        seen = [await anext(stream), await anext(stream)]
        assert [(event["Action"], event["Actor"]["ID"]) for event in seen] == [("create", "data"), ("destroy", "data")]
        await house.trash.settle()

    asyncio.run(scene())
