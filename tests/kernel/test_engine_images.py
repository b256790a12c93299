"""The image service with its real store, worker and layers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.engine import lifecycle
from sampan.engine.container import Container
from sampan.engine.events import Events
from sampan.engine.images import Images
from sampan.engine.index import Index
from sampan.engine.record import Record
from sampan.errors import Conflict, InvalidArgument, NotFound, SampanError, Unsupported
from sampan.image.store import Store
from sampan.jobs.client import ForkServer


class Shop:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root)
        self.worker = ForkServer("sampan.engine.worker")
        self.index = Index()
        self.events = Events()
        self.images = Images(self.store, self.worker, self.events, self.index)

    async def make(self, name: str, files: dict[str, str], changes: tuple[str, ...] = ()) -> str:
        with _file(_tar(files)) as fd:
            return await self.images.import_(fd, "-", name, "", changes)

    def use(self, image_id: str, running: bool = False) -> Container:
        status = lifecycle.RUNNING if running else lifecycle.EXITED
        layers = [layer.diff_id for layer in self.store.get(image_id).layers]
        container = Container(Record("c" * 64, "web", 1, image_id, "x", {}, {}, status=status, layers=layers))
        self.index.add(container)
        return container

    def names(self, **options: Any) -> list[list[str]]:
        return [image["RepoTags"] for image in self.images.list(**options)]

    def contents(self) -> set[str]:
        """Layers, blobs that belong to images, half-made things."""
        layers = {name for name in os.listdir(self.root / "layers") if len(name) == 64}
        return layers | set(os.listdir(self.root / "image/blobs/sha256")) | set(os.listdir(self.root / "tmp"))


@contextlib.contextmanager
def _file(data: bytes = b"") -> Iterator[int]:
    """An unnamed file with some content, at its beginning."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        yield file.fileno()


def _tar(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.worker.close()


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scene)


def test_import_inspect_history(shop: Shop) -> None:
    async def scene() -> None:
        stream = shop.events.subscribe()
        image_id = await shop.make("tiny:v1", {"etc/hello": "hello"}, ('CMD ["/hello"]', "LABEL a=b"))
        image = shop.images.inspect("tiny:v1")
        assert image["Id"] == image_id and image["RepoTags"] == ["tiny:v1"] and image["Os"] == "linux"
        assert image["Config"]["Cmd"] == ["/hello"] and image["Config"]["Labels"] == {"a": "b"}
        assert image["Comment"] == "Imported from -" and len(image["RootFS"]["Layers"]) == 1
        assert image["RepoDigests"][0].startswith("tiny@sha256:")
        assert shop.images.inspect(image["RepoDigests"][0])["Id"] == image_id
        (step,) = shop.images.history("tiny:v1")
        assert step["Id"] == image_id and step["Tags"] == ["tiny:v1"] and step["Comment"] == "Imported from -"
        assert step["Size"] == image["Size"] == 5
        upper = Path(image["GraphDriver"]["Data"]["UpperDir"])
        assert (upper / "etc/hello").read_text() == "hello"
        event = await anext(stream)
        assert (event["Action"], event["id"]) == ("import", image_id)
        assert event["Actor"]["Attributes"] == {"name": "tiny:v1", "a": "b"}

    play(scene())


@pytest.mark.parametrize(("data", "name", "changes", "message"), [
    (b"no tar at all" * 100, "x", (), "invalid tar header"),
    (b"", "x", (), "the archive is empty"),
    (_tar({"a": "b" * 100_000})[:-30], "x", (), "unexpected end of the archive"),
    (_tar({"a": "b"}), "Upper", (), "must be lowercase"),
    (_tar({"a": "b"}), "x", ("RUN true",), "RUN is not a valid change command"),
])
def test_a_failed_import_leaves_nothing(
    shop: Shop, data: bytes, name: str, changes: tuple[str, ...], message: str
) -> None:
    async def scene() -> None:
        before = shop.contents()
        with _file(data) as fd, pytest.raises(InvalidArgument, match=message):
            await shop.images.import_(fd, "-", name, "", changes)
        assert shop.images.list(all=True) == []
        await shop.images.sweep()
        assert shop.contents() == before

    play(scene())


def test_a_cancelled_import_ends_its_job(shop: Shop) -> None:
    async def scene() -> None:
        reading, writing = os.pipe()
        task = asyncio.create_task(shop.images.import_(reading, "-", "x", "", ()))
        await asyncio.sleep(0)
        os.write(writing, _tar({"a": "b" * 1000})[:100])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        os.close(reading)
        with pytest.raises(BrokenPipeError):  # nobody reads any more: the job is gone, with its descriptor
            while True:
                os.write(writing, b"x" * 65536)
        os.close(writing)
        assert shop.images.list(all=True) == []

    play(scene())


def test_save_and_load_are_inverse(shop: Shop, tmp_path: Path) -> None:
    async def scene() -> None:
        image_id = await shop.make("tiny:v1", {"a": "one"})
        shop.images.tag("tiny:v1", "reg:5000/x/tiny", "v2")
        with _file() as fd:
            await shop.images.save(["tiny:v1", "reg:5000/x/tiny:v2"], fd)
            await shop.images.remove(image_id, force=True)
            assert shop.images.list(all=True) == []
            os.lseek(fd, 0, os.SEEK_SET)
            said: list[dict[str, Any]] = []
            await shop.images.load(fd, said.append)
        assert {line["stream"] for line in said} == {
            "Loaded image: tiny:v1\n", "Loaded image: reg:5000/x/tiny:v2\n",
        }
        assert shop.images.inspect("tiny:v1")["Id"] == image_id
        with pytest.raises(NotFound, match="No such image: nope:latest"):
            await shop.images.save(["nope"], 1)
        with pytest.raises(InvalidArgument, match="no images to save"):
            await shop.images.save([], 1)

    play(scene())


def test_removal_follows_dockers_rules(shop: Shop) -> None:
    async def scene() -> None:
        image_id = await shop.make("tiny:v1", {"a": "one"})
        shop.images.tag(image_id, "tiny:v2")
        stream = shop.events.subscribe()
        with pytest.raises(Conflict, match=r"\(must be forced\) - image is referenced in multiple repositories"):
            await shop.images.remove(image_id)
        assert await shop.images.remove("tiny:v2") == [{"Untagged": "tiny:v2"}]
        container = shop.use(image_id)
        with pytest.raises(Conflict, match=r'unable to remove repository reference "tiny:v1" \(must force\)'):
            await shop.images.remove("tiny:v1")
        shop.index.remove(container)
        records = await shop.images.remove("tiny:v1")
        assert records[:2] == [{"Untagged": "tiny:v1"}, {"Deleted": image_id}]
        actions = [(await anext(stream))["Action"] for _ in range(3)]
        assert actions == ["untag", "untag", "delete"]
        assert not [name for name in shop.contents() if name != "empty"]
        with pytest.raises(NotFound, match="No such image: tiny:v1"):
            await shop.images.remove("tiny:v1")

    play(scene())


def test_a_container_keeps_the_layers_of_a_removed_image(shop: Shop) -> None:
    async def scene() -> None:
        image_id = await shop.make("tiny:v1", {"a": "one"})
        container = shop.use(image_id)
        directory = Path(shop.images.inspect("tiny:v1")["GraphDriver"]["Data"]["UpperDir"])
        await shop.images.remove("tiny:v1", force=True)
        assert shop.images.list(all=True) == [] and (directory / "a").read_text() == "one"
        shop.index.remove(container)
        assert await shop.images.sweep() > 0
        assert not directory.exists()

    play(scene())


def test_prune(shop: Shop) -> None:
    async def scene() -> None:
        old = await shop.make("tiny:v1", {"a": "one"})
        new = await shop.make("tiny:v1", {"a": "two"}, ("LABEL keep=yes",))  # takes the name: the old one dangles
        used = await shop.make("used:v1", {"a": "three"})
        shop.use(used)
        assert shop.names(filters={"dangling": ["true"]}) == [[]]
        pruned = await shop.images.prune()
        assert {"Deleted": old} in pruned["ImagesDeleted"] and pruned["SpaceReclaimed"] > 0
        assert (await shop.images.prune())["ImagesDeleted"] is None
        assert (await shop.images.prune({"dangling": ["0"], "label!": ["keep"]}))["ImagesDeleted"] is None
        pruned = await shop.images.prune({"dangling": ["0"]})
        assert pruned["ImagesDeleted"][:2] == [{"Untagged": "tiny:v1"}, {"Deleted": new}]
        assert shop.names() == [["used:v1"]]
        with pytest.raises(InvalidArgument, match="invalid filter 'colour'"):
            await shop.images.prune({"colour": ["red"]})

    play(scene())


def test_list_filters(shop: Shop) -> None:
    async def scene() -> None:
        await shop.make("one:v1", {"a": "1"}, ("LABEL tier=db",))
        await shop.make("reg.example/team/two:v1", {"a": "2"})
        shop.images.tag("one:v1", "one:v2")
        ask: Callable[[dict[str, list[str]]], list[list[str]]] = lambda filters: shop.names(filters=filters)  # noqa: E731
        assert ask({"label": ["tier=db"]}) == [["one:v1", "one:v2"]]
        assert ask({"reference": ["one"]}) == [["one:v1", "one:v2"]]
        assert ask({"reference": ["one:*2"]}) == [["one:v2"]]
        assert ask({"reference": ["*/*/two"]}) == [["reg.example/team/two:v1"]]
        assert ask({"reference": ["*"]}) == [["one:v1", "one:v2"]]
        assert ask({"since": ["one:v1"]}) == [["reg.example/team/two:v1"]]
        assert ask({"before": ["reg.example/team/two:v1"]}) == [["one:v1", "one:v2"]]
        assert ask({"until": ["1h"]}) == []
        with pytest.raises(InvalidArgument, match="invalid filter 'colour'"):
            ask({"colour": ["red"]})
        with pytest.raises(NotFound, match="No such image: nope:latest"):
            ask({"before": ["nope"]})

    play(scene())


@pytest.mark.parametrize(("ask", "kind", "message"), [
    (lambda it: it.pull("alpine"), NotFound, "there is no image alpine:latest on this host, and Sampan cannot"),
    (lambda it: it.pull("Alpine:x"), InvalidArgument, "must be lowercase"),
    (lambda it: it.push("alpine"), NotFound, "No such image: alpine:latest"),
    (lambda it: it.search("alpine"), Unsupported, "no registry support"),
    (lambda it: it.inspect("nope"), NotFound, "No such image: nope:latest"),
    (lambda it: it.history("nope:v2"), NotFound, "No such image: nope:v2"),
    (lambda it: it.tag("nope", "a"), NotFound, "No such image: nope:latest"),
])
def test_refusals(shop: Shop, ask: Callable[[Images], object], kind: type[SampanError], message: str) -> None:
    with pytest.raises(kind, match=message):
        ask(shop.images)
