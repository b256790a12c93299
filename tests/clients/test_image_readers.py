"""Other tools read what we write and we what they write: skopeo, umoci (Debian's packages)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from layer_fixture import archive, listing, member, memory_file, run, symlink
from sampan.image import layer
from sampan.image.jobs import JOBS
from sampan.image.store import Image, Store
from sampan.image.stream import Source
from sampan.oci import image as oci


def command(*arguments: str | Path) -> str:
    return subprocess.run([*map(str, arguments)], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


@pytest.fixture
def image(store: Store) -> Image:
    base = archive(member("bin"), member("bin/sh", b"#!", mode=0o755), symlink("sh", "bin/sh"), member("etc/old", b"x"))
    new = member("etc/new", b"y", uid=1000, mtime=5)
    top = archive(member("etc/.wh.old", b""), new, member("bin/.wh..wh..opq", b""))
    layers = []
    for data in (base, top):
        fd = memory_file(data)
        layers.append(layer.unpack(store.layout, Source(fd))[0])
        os.close(fd)
    settings = oci.ContainerConfig(cmd=["sh"], env=["PATH=/bin"], labels={"a": "b"}, exposed_ports={"80/tcp": {}})
    config = oci.ImageConfig(architecture="amd64", os="linux", created="2024-01-01T00:00:00Z", config=settings)
    return store.register(config, layers, ["app:v1", "localhost:5000/app:v2"])


def save(store: Store, image: Image, path: Path) -> None:
    with open(path, "wb") as file:
        wanted = {"manifest": image.manifest_digest, "names": [*image.names]}
        run(JOBS, "image.save", {"data_root": store.layout.root, "images": [wanted]}, [file.fileno()])


def load(store: Store, path: Path) -> list[Image]:
    with open(path, "rb") as file:
        result, _ = run(JOBS, "image.load", {"data_root": store.layout.root}, [file.fileno()])
    return [store.adopt(it["manifest"], it["names"]) for it in result["images"]]


def test_skopeo_reads_the_store(store: Store, image: Image, tmp_path: Path) -> None:
    for name in ("docker.io/library/app:v1", "localhost:5000/app:v2"):
        seen: dict[str, Any] = json.loads(command("skopeo", "inspect", f"oci:{store.layout.image}:{name}"))
        assert seen["Layers"] == [it.blob_digest for it in image.layers]
        assert (seen["Env"], seen["Labels"], seen["Digest"]) == (["PATH=/bin"], {"a": "b"}, image.manifest_digest)
    source = f"oci:{store.layout.image}:docker.io/library/app:v1"
    command("skopeo", "--insecure-policy", "copy", source, f"dir:{tmp_path}/out")


def test_umoci_reads_the_store(store: Store, image: Image, tmp_path: Path) -> None:
    names = command("umoci", "ls", "--layout", store.layout.image).split()
    assert names == ["docker.io/library/app:v1", "localhost:5000/app:v2"]


def test_umoci_unpacks_what_we_saved(store: Store, image: Image, tmp_path: Path) -> None:
    """Its merged root is the one our overlay shows."""
    save(store, image, tmp_path / "saved.tar")
    copied = f"oci:{tmp_path}/layout:x"
    command("skopeo", "--insecure-policy", "copy", f"oci-archive:{tmp_path}/saved.tar:v1", copied)
    command("umoci", "unpack", "--image", f"{tmp_path}/layout:x", tmp_path / "bundle")
    out = os.memfd_create("out")
    root = {"kind": "overlay", "lower": store.lower_dirs(image)}
    run(JOBS, "image.pack", {"root": root, "path": "/", "name": ""}, [out])
    os.lseek(out, 0, os.SEEK_SET)
    (tmp_path / "ours").mkdir()
    run(JOBS, "image.extract", {"root": {"kind": "directory", "path": f"{tmp_path}/ours"}, "path": "/"}, [out])
    os.close(out)
    theirs, ours = listing(tmp_path / "bundle/rootfs"), listing(tmp_path / "ours")
    assert sorted(ours) == ["bin", "etc", "etc/new", "sh"]
    assert {path: (*it[:3], it[5]) for path, it in theirs.items()} == {
        path: (*it[:3], it[5]) for path, it in ours.items()
    }


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_skopeo_reads_what_we_saved(store: Store, image: Image, tmp_path: Path, kind: str) -> None:
    save(store, image, tmp_path / "saved.tar")
    name = "app:v1" if kind == "docker-archive" else "v1"
    seen = json.loads(command("skopeo", "inspect", "--config", f"{kind}:{tmp_path}/saved.tar:{name}"))
    assert seen["config"]["Cmd"] == ["sh"]
    assert seen["rootfs"]["diff_ids"] == [it.diff_id for it in image.layers]
    command("skopeo", "--insecure-policy", "copy", f"{kind}:{tmp_path}/saved.tar:{name}", f"oci:{tmp_path}/copy:x")


@pytest.mark.parametrize("target", ["docker-archive:{}:app:v9", "oci-archive:{}:app:v9"])
def test_we_read_what_skopeo_wrote(store: Store, image: Image, tmp_path: Path, target: str) -> None:
    source = f"oci:{store.layout.image}:docker.io/library/app:v1"
    command("skopeo", "--insecure-policy", "copy", source, target.format(tmp_path / "theirs.tar"))
    [again] = load(Store(tmp_path / "other"), tmp_path / "theirs.tar")
    assert again.names == ("app:v9",)
    assert [it.diff_id for it in again.layers] == [it.diff_id for it in image.layers]
    if target.startswith("oci"):
        assert again.id == image.id


def test_we_read_what_umoci_wrote(store: Store, image: Image, tmp_path: Path) -> None:
    layout = f"{tmp_path}/layout"
    source = f"oci:{store.layout.image}:docker.io/library/app:v1"
    command("skopeo", "--insecure-policy", "copy", source, f"oci:{layout}:app:v1")
    command("umoci", "unpack", "--image", f"{layout}:app:v1", tmp_path / "bundle")
    (tmp_path / "bundle/rootfs/etc/new").unlink()
    (tmp_path / "bundle/rootfs/added").write_text("by umoci")
    command("umoci", "repack", "--image", f"{layout}:app:v2", tmp_path / "bundle")
    command("tar", "-C", layout, "-cf", tmp_path / "theirs.tar", ".")
    images = {image.names: image for image in load(Store(tmp_path / "other"), tmp_path / "theirs.tar")}
    new = images["app:v2",]
    assert len(new.layers) == 3
    top = Path(Store(tmp_path / "other").lower_dirs(new)[0])
    assert (top / "added").read_text() == "by umoci"
    assert (top / "etc/new").is_char_device()
