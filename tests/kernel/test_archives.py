"""save and load: docker-archive and OCI layout, ours and those of other tools."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from layer_fixture import archive, member, memory_file, run, symlink
from sampan.errors import InvalidArgument, Unsupported
from sampan.image.jobs import JOBS
from sampan.image.store import Image, Store
from sampan.oci import image as oci


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


def load(store: Store, data: bytes) -> list[Image]:
    fd = memory_file(data)
    try:
        result, _ = run(JOBS, "image.load", {"data_root": store.layout.root}, [fd])
    finally:
        os.close(fd)
    return [store.adopt(it["manifest"], it["names"]) for it in result["images"]]


def save(store: Store, *images: dict[str, Any]) -> bytes:
    fd = os.memfd_create("saved")
    try:
        run(JOBS, "image.save", {"data_root": store.layout.root, "images": images}, [fd])
        return os.pread(fd, 1 << 24, 0)
    finally:
        os.close(fd)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def layers() -> list[bytes]:
    return [archive(member("a"), member("a/x", b"one")), archive(member("a/.wh.x", b""), member("a/y", b"two"))]


def config(*tars: bytes) -> bytes:
    diff_ids = [f"sha256:{digest(data)}" for data in tars]
    return json.dumps({
        "os": "linux", "architecture": "amd64", "created": "2020-01-01T00:00:00Z",
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "extra": "member",
    }).encode()


def docker_archive(*tars: bytes, names: list[str] | None, about: bytes = b"", link: bool = False) -> bytes:
    """As Docker made them up to version 24, or skopeo with its links."""
    about = about or config(*tars)
    names_in = [f"{number}/layer.tar" for number in range(len(tars))]
    members = [member(name, data) for name, data in zip(names_in, tars, strict=True)]
    if link:
        members = [member(f"{digest(data)}.tar", data) for data in tars] + [
            symlink(name, f"../{digest(data)}.tar") for name, data in zip(names_in, tars, strict=True)
        ]
    manifest = [{"Config": "config.json", "RepoTags": names, "Layers": names_in}]
    return archive(*members, member("config.json", about), member("manifest.json", json.dumps(manifest).encode()))


def blob(media_type: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{digest(data)}", "size": len(data), **more}


def oci_archive(*tars: bytes, name: str, compress: bool = True, spoil: str = "") -> bytes:
    stored = [gzip.compress(data) if compress else data for data in tars]
    about = config(*tars)
    kind = oci.OCI_LAYER_GZIP if compress else oci.OCI_LAYER
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": oci.OCI_MANIFEST, "config": blob(oci.OCI_CONFIG, about),
        "layers": [blob(kind, data) for data in stored], "annotations": {"kept": "yes"},
    }).encode()
    index = {
        "schemaVersion": 2, "manifests": [blob(oci.OCI_MANIFEST, manifest, annotations={oci.REF_NAME: name})]
    }
    blobs = {f"blobs/sha256/{digest(data)}": data for data in (*stored, about, manifest)}
    if spoil:
        path = f"blobs/sha256/{digest({'layer': stored[0], 'config': about, 'manifest': manifest}[spoil])}"
        blobs[path] = gzip.compress(archive(member("evil", b"x"))) if spoil == "layer" else blobs[path] + b" "
    return archive(
        member("index.json", json.dumps(index).encode()), member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        *(member(path, data) for path, data in blobs.items()),
    )


@pytest.mark.parametrize("link", [False, True])
def test_docker_archive(store: Store, link: bool) -> None:
    [image] = load(store, docker_archive(*layers(), names=["app:v1", "localhost:5000/app:x"], link=link))
    assert image.names == ("app:v1", "localhost:5000/app:x")
    assert image.id == f"sha256:{digest(config(*layers()))}"
    assert Path(store.lower_dirs(image)[0], "a/y").read_text() == "two"
    assert store.problems == [] and os.listdir(store.layout.tmp) == []


def test_without_names(store: Store) -> None:
    [image] = load(store, docker_archive(*layers(), names=None))
    assert image.names == ()


@pytest.mark.parametrize("compress", [True, False])
def test_oci_archive_keeps_its_manifest(store: Store, compress: bool) -> None:
    [image] = load(store, oci_archive(*layers(), name="app:v1", compress=compress))
    assert image.names == ("app:v1",)
    assert b'"kept"' in store.layout.read_blob(image.manifest_digest)
    assert image.layers[0].media_type == (oci.OCI_LAYER_GZIP if compress else oci.OCI_LAYER)
    assert store.layout.has_blob(image.layers[0].blob_digest)


def test_a_bare_tag_is_no_name(store: Store) -> None:
    assert load(store, oci_archive(*layers(), name="latest"))[0].names == ()


def test_a_second_blob_of_a_known_layer(store: Store) -> None:
    load(store, docker_archive(*layers(), names=["one"]))
    [image] = load(store, oci_archive(*layers(), name="two:x"))
    assert image.names == ("one:latest", "two:x")


def test_what_was_saved_loads_again(store: Store, tmp_path: Path) -> None:
    [image] = load(store, docker_archive(*layers(), names=["app:v1", "app:v2"]))
    saved = save(
        store, {"manifest": image.manifest_digest, "names": ["app:v1"]},
        {"manifest": image.manifest_digest, "names": ["app:v2"]},
    )
    assert saved == save(store, {"manifest": image.manifest_digest, "names": ["app:v1", "app:v2"]})
    other = Store(tmp_path / "other")
    for data in (saved, gzip.compress(saved)):
        [again] = load(other, data)
        assert again == image
    with open(memory_file(saved), "rb") as file, tarfile.open(fileobj=file) as tar:
        assert [it.name for it in tar][-3:] == ["index.json", "manifest.json", "oci-layout"]


def test_saved_as_oci_alone(store: Store, tmp_path: Path) -> None:
    [image] = load(store, docker_archive(*layers(), names=["app:v1"]))
    saved = save(store, {"manifest": image.manifest_digest, "names": ["app:v1"]})
    with open(memory_file(saved), "rb") as file, tarfile.open(fileobj=file) as tar:
        kept = [(it, tar.extractfile(it).read() if it.isreg() else b"") for it in tar if it.name != "manifest.json"]  # type: ignore[union-attr]
    assert load(Store(tmp_path / "other"), archive(*kept)) == [image]


# archives that lie


def test_a_layer_that_is_another(store: Store) -> None:
    lie = docker_archive(layers()[1], names=["app"], about=config(layers()[0]))
    with pytest.raises(InvalidArgument, match="the image's config says"):
        load(store, lie)
    assert os.listdir(store.layout.tmp) == []


@pytest.mark.parametrize("spoil", ["layer", "config", "manifest"])
def test_a_blob_that_is_another_cve_2014_8179(store: Store, spoil: str) -> None:
    with pytest.raises(InvalidArgument, match=r"not what its digest says|the image's config says"):
        load(store, oci_archive(*layers(), name="app:v1", spoil=spoil))
    assert store.images() == []


def test_a_poisoned_blob_of_a_known_layer(store: Store) -> None:
    load(store, docker_archive(*layers(), names=["one"]))
    with pytest.raises(InvalidArgument, match="not what its digest says"):
        load(store, oci_archive(*layers(), name="app:v1", spoil="layer"))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("bin"), member("bin/sh", b"")], "becomes an image by `import`"),
        ([member("manifest.json", b"[]x")], "invalid manifest.json"),
        ([member("manifest.json", b"[null]")], "invalid manifest.json"),
        ([member("manifest.json", b'[{"Config":"../../../../etc/passwd","Layers":[]}]')], "cannot read"),
        ([member("manifest.json", b'[{"Config":"x","Layers":[]}]'), symlink("x", "/etc/passwd")], "cannot read"),
        ([member("manifest.json", b'[{"Config":"x","Layers":["y"]}]'), member("x", b"{}")], "length mismatch"),
        ([member("manifest.json", b'[{"Config":"x","RepoTags":["A"],"Layers":[]}]')], "must be lowercase"),
        ([member("manifest.json", b"[" * 100_000)], "invalid manifest.json"),
        ([member("index.json", b'{"manifests":[]}')], "no image for this host"),
        ([member("index.json")], "cannot read"),
        ([member("manifest.json", type=tarfile.FIFOTYPE)], "not allowed here"),
        ([member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)], "not allowed here"),
    ],
)
def test_bad_archives(store: Store, members: list[Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        load(store, archive(*members))
    assert os.listdir(store.layout.tmp) == os.listdir(store.layout.blobs) == []


def test_an_artifact_is_no_image(store: Store) -> None:
    text = b"{}"
    manifest = json.dumps({
        "schemaVersion": 2, "config": blob("application/vnd.cncf.helm.config.v1+json", text), "layers": []
    }).encode()
    index = json.dumps({"schemaVersion": 2, "manifests": [blob(oci.OCI_MANIFEST, manifest)]}).encode()
    data = archive(
        member("index.json", index), *(member(f"blobs/sha256/{digest(it)}", it) for it in (text, manifest))
    )
    with pytest.raises(Unsupported, match="helm"):
        load(store, data)
