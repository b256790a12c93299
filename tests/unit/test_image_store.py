"""The image store: names, ids, deletion with Docker's rules, garbage, what a crash leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from layer_fixture import archive, member, memory_file
from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.image import layer
from sampan.image.delete import Use, delete
from sampan.image.layout import LayerRef
from sampan.image.store import Image, Store
from sampan.image.stream import Source
from sampan.oci import image as oci

RUNNING, STOPPED = "a" * 64, "b" * 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


def new_layer(store: Store, text: str) -> LayerRef:
    fd = memory_file(archive(member("file", text.encode())))
    try:
        return layer.unpack(store.layout, Source(fd))[0]
    finally:
        os.close(fd)


def image(store: Store, text: str, *names: str, base: Image | None = None) -> Image:
    layers = [*(base.layers if base else ()), new_layer(store, text)]
    config = oci.ImageConfig(architecture="amd64", os="linux", created=f"2024-01-01T00:00:{len(layers):02}Z")
    return store.register(config, layers, names, parent=base.id if base else "")


def test_register_and_resolve(store: Store) -> None:
    one = image(store, "one", "app:v1", "docker.io/library/app:v2")
    assert one.names == ("app:v1", "app:v2")
    assert one.size == 3
    digits = one.id.removeprefix("sha256:")
    for ref in ("app:v1", "library/app:v2", one.id, digits, digits[:4], f"sha256:{digits[:7]}"):
        assert store.resolve(ref) == one
    assert store.resolve(f"app@{one.manifest_digest}") == one
    assert store.name_meant("docker.io/app:v1") == "app:v1"
    assert store.name_meant(digits[:12]) == ""
    assert oci.digest_of(store.layout.read_blob(one.id)) == one.id


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("app", "No such image: app:latest"), ("library/app:v1", "No such image: app:v1"),
        ("sha256:" + "0" * 64, "No such image: sha256:" + "0" * 64), ("0" * 12, "No such image: 000000000000:latest"),
    ],
)
def test_no_such_image(store: Store, ref: str, message: str) -> None:
    with pytest.raises(NotFound) as error:
        store.resolve(ref)
    assert str(error.value) == message


def test_a_bad_reference(store: Store) -> None:
    with pytest.raises(InvalidArgument, match="invalid reference format"):
        store.resolve("a b")


def test_an_ambiguous_prefix(store: Store) -> None:
    seen = {}
    for number in range(17):
        one = image(store, str(number), f"n{number}:x")
        first = one.id[7]
        if first in seen:
            with pytest.raises(Conflict, match="multiple IDs found with provided prefix"):
                store.resolve(first)
            return
        seen[first] = one
    pytest.fail("17 ids with 16 first digits")


def test_lower_directories_are_topmost_first(store: Store) -> None:
    base = image(store, "base", "base")
    top = image(store, "top", "top", base=base)
    assert store.lower_dirs(top) == [store.layout.layer_dir(it.diff_id) for it in (top.layers[1], top.layers[0])]
    assert store.lower_dirs([]) == [store.layout.empty]


def test_a_name_moves(store: Store) -> None:
    one, two = image(store, "one", "app"), image(store, "two")
    assert store.tag(two.id, "app") == "app:latest"
    assert store.get(one.id).names == ()
    assert store.resolve("app") == store.get(two.id)
    assert image(store, "three", "app").names == ("app:latest",)
    assert store.get(two.id).names == ()
    with pytest.raises(InvalidArgument, match="digest"):
        store.tag(one.id, f"app@{one.manifest_digest}")


def test_the_same_image_twice(store: Store) -> None:
    assert image(store, "one", "a").id == image(store, "one", "b").id
    assert [it.names for it in store.images()] == [("a:latest", "b:latest")]


def test_everything_is_there_after_a_restart(store: Store) -> None:
    base = image(store, "base", "base")
    image(store, "top", "top", "localhost:5000/top:x", base=base)
    image(store, "nameless")
    again = Store(store.layout.root)
    assert again.images() == store.images()
    assert again.problems == []


def test_the_index_is_a_standard_one(store: Store) -> None:
    one = image(store, "one", "app:v1")
    index = json.loads(Path(store.layout.index).read_bytes())
    assert index["schemaVersion"] == 2 and index["mediaType"] == oci.OCI_INDEX
    [entry] = index["manifests"]
    assert entry["digest"] == one.manifest_digest
    assert entry["annotations"] == {
        "io.containerd.image.name": "docker.io/library/app:v1",
        "org.opencontainers.image.ref.name": "docker.io/library/app:v1",
    }
    assert json.loads(Path(f"{store.layout.image}/oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}


def test_a_damaged_image_is_told_and_kept(store: Store) -> None:
    one = image(store, "one", "one")
    image(store, "two", "two")
    Path(store.layout.blob_path(one.id)).write_bytes(b"{}")
    again = Store(store.layout.root)
    assert [it.names for it in again.images()] == [("two:latest",)]
    assert len(again.problems) == 1 and "damaged" in again.problems[0]
    again.tag(again.images()[0].id, "three")
    assert again.collect().names == ()
    assert one.manifest_digest in Path(store.layout.index).read_text()


# deletion


def test_delete_a_name_then_the_image(store: Store) -> None:
    one = image(store, "one", "app:a", "app:b")
    assert delete(store, "app:a") == [{"Untagged": "app:a"}]
    assert delete(store, "app:b") == [
        {"Untagged": "app:b"}, {"Deleted": one.id}, {"Deleted": one.layers[0].diff_id}
    ]
    assert store.images() == []


def test_delete_by_id(store: Store) -> None:
    one = image(store, "one", "app:a", "app:b")
    short = one.id[7:19]
    with pytest.raises(Conflict) as error:
        delete(store, short)
    assert str(error.value) == (
        f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    )
    assert delete(store, short, force=True)[:2] == [{"Untagged": "app:a"}, {"Untagged": "app:b"}]


def test_delete_by_digest(store: Store) -> None:
    one = image(store, "one", "app:a", "app:b", "other")
    assert delete(store, f"app@{one.manifest_digest}") == [{"Untagged": "app:a"}, {"Untagged": "app:b"}]
    assert store.get(one.id).names == ("other:latest",)


def test_delete_what_a_container_uses(store: Store) -> None:
    one = image(store, "one", "app")
    stopped, running = [Use(one.id, STOPPED, False)], [Use(one.id, RUNNING, True)]
    for uses in (stopped, running):
        with pytest.raises(Conflict) as error:
            delete(store, "app", in_use=uses)
        assert str(error.value) == (
            f'conflict: unable to remove repository reference "app:latest" (must force) - '
            f"container {uses[0].container_id[:12]} is using its referenced image {one.id[7:19]}"
        )
    with pytest.raises(Conflict, match=r"\(must be forced\) - image is being used by stopped container b{12}$"):
        delete(store, one.id, in_use=stopped)
    with pytest.raises(Conflict, match=r"\(cannot be forced\) - image is being used by running container a{12}$"):
        delete(store, one.id, force=True, in_use=running)
    assert store.get(one.id).names == ("app:latest",)
    assert delete(store, "app", force=True, in_use=running) == [{"Untagged": "app:latest"}]
    assert store.get(one.id).names == ()
    assert {"Deleted": one.id} in delete(store, one.id, force=True, in_use=stopped)


def test_delete_a_parent(store: Store) -> None:
    base = image(store, "base", "base")
    top = image(store, "top", "top", base=base)
    with pytest.raises(Conflict, match=r"\(cannot be forced\) - image has dependent child images"):
        delete(store, base.id, force=True)
    assert delete(store, "base") == [{"Untagged": "base:latest"}]
    records = delete(store, "top")
    chain = oci.chain_ids([it.diff_id for it in top.layers])
    assert records == [
        {"Untagged": "top:latest"}, {"Deleted": top.id}, {"Deleted": chain[1]}, {"Deleted": base.id},
        {"Deleted": chain[0]},
    ]


def test_delete_without_prune_keeps_parents(store: Store) -> None:
    base = image(store, "base")
    image(store, "top", "top", base=base)
    delete(store, "top", prune=False)
    assert [it.id for it in store.images()] == [base.id]


# garbage


def test_collect(store: Store) -> None:
    base = image(store, "base", "base")
    image(store, "top", "top", base=base)
    other = image(store, "other", "other")
    assert store.collect().names == ()
    delete(store, "top")
    delete(store, "other")
    kept = other.layers[0].diff_id
    garbage = store.collect(keep_layers=[kept])
    assert len(garbage.layers) == 1
    assert garbage.size > 0
    assert os.path.isdir(store.layout.layer_dir(kept)) and store.layout.layer(kept)
    assert store.layout.has_blob(other.layers[0].blob_digest)
    assert sorted(os.listdir(store.layout.tmp)) == sorted(garbage.names)
    for name in garbage.names:
        store.layout.remove_temporary(name)
    assert Store(store.layout.root).resolve("base").layers == base.layers
    assert store.collect(keep_layers=[kept]).names == ()
    store.collect()
    assert len([it for it in os.listdir(store.layout.layers) if len(it) == 64]) == 1


def test_nothing_is_collected_while_held(store: Store) -> None:
    with store.hold():
        with store.hold():
            ref = new_layer(store, "not yet registered")
        assert store.collect().names == ()
        store.register(oci.ImageConfig(os="linux"), [ref], ["app"])
    assert store.collect().names == ()
    assert store.resolve("app").layers == (ref,)


def test_what_a_crash_leaves(store: Store) -> None:
    ref = new_layer(store, "x")
    Path(store.layout.tmp, "half-made").mkdir()
    os.unlink(store.layout.layer_dir(ref.diff_id) + ".json")  # between the rename and the record
    again = Store(store.layout.root)
    assert again.leftovers == ["half-made"]
    assert new_layer(again, "x") == ref
    assert again.layout.layer(ref.diff_id) == ref


def test_only_digests_become_paths_cve_2014_9358(store: Store) -> None:
    zeros = "0" * 64
    for bad in ("sha256:../../etc/passwd", "../x", f"sha256:{zeros[1:]}", f"sha256:{zeros}\n", f"SHA256:{zeros}"):
        with pytest.raises(InvalidArgument, match="digest"):
            store.layout.blob_path(bad)
        with pytest.raises(InvalidArgument, match="digest"):
            store.layout.layer_dir(bad)


def test_directories_are_closed_to_others_cve_2021_41091(store: Store) -> None:
    for path in (store.layout.image, store.layout.layers, store.layout.tmp):
        assert os.stat(path).st_mode & 0o077 == 0
