"""The docker command and docker-py on images: import, list, history, inspect, tag, save, load, remove, prune, build."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from engine_fixture import Engine, busybox_tar
from engine_fixture import engine as new_engine
from sampan.engine.host import architecture


@pytest.fixture(scope="module")
def root_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("root") / "root.tar"
    path.write_bytes(busybox_tar())
    return path


@pytest.fixture(scope="module")
def engine(root_tar: Path) -> Iterator[Engine]:
    with new_engine(image=False) as engine:
        engine.docker("import", "-c", 'CMD ["sh"]', "-c", "LABEL tier=base", "-m", "made here", str(root_tar), "box:v1")
        yield engine


def _inspect(engine: Engine, name: str) -> Any:
    return json.loads(engine.docker("image", "inspect", name).stdout)[0]


@pytest.fixture(autouse=True)
def only_the_base_image(engine: Engine) -> Iterator[None]:
    yield
    for name in engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split():
        if name != "box:v1" and "<none>" not in name:
            engine.docker("rmi", "-f", name)
    engine.docker("image", "prune", "-f")
    engine.docker("builder", "prune", "-af")


def test_import_prints_the_id_and_inspect_shows_the_changes(engine: Engine, root_tar: Path) -> None:
    image = _inspect(engine, "box:v1")
    assert image["Id"].startswith("sha256:") and image["RepoTags"] == ["box:v1"]
    assert image["Config"]["Cmd"] == ["sh"] and image["Config"]["Labels"] == {"tier": "base"}
    assert image["Comment"] == "made here" and image["Os"] == "linux" and image["Size"] > 100_000
    again = engine.docker("import", str(root_tar), "other:v1").stdout
    assert again.strip() == _inspect(engine, "other:v1")["Id"]
    assert engine.docker("inspect", "-f", "{{.RootFS.Type}} {{len .RootFS.Layers}}", "box:v1").stdout == "layers 1\n"


def test_images_and_history_print_properly(engine: Engine) -> None:
    header, *rows = engine.docker("images", "--digests", "--no-trunc").stdout.splitlines()
    assert header.split() == ["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "SIZE"]
    assert len(rows) == 1 and rows[0].split()[:2] == ["box", "v1"] and "MB" in rows[0]
    rows = engine.docker("history", "--no-trunc", "box:v1").stdout.splitlines()
    assert len(rows) == 2 and rows[1].endswith("made here") and "MB" in rows[1]
    assert engine.docker("images", "-q", "--filter", "label=tier=base").stdout == engine.docker("images", "-q").stdout
    assert engine.docker("images", "-q", "nothing*").stdout == ""
    refused = engine.docker("images", "--filter", "colour=red", check=False)
    assert refused.returncode == 1 and "invalid filter 'colour'" in refused.stderr


@pytest.mark.docker_client("28")
def test_tag_untag_and_removal(engine: Engine) -> None:
    engine.docker("tag", "box:v1", "registry.example:5000/team/box:v2")
    assert _inspect(engine, "registry.example:5000/team/box:v2")["RepoTags"] == [
        "box:v1", "registry.example:5000/team/box:v2",
    ]
    assert engine.docker("rmi", "registry.example:5000/team/box:v2").stdout == \
        "Untagged: registry.example:5000/team/box:v2\n"
    missing = engine.docker("rmi", "nope", check=False)
    assert missing.returncode == 1 and "No such image: nope:latest" in missing.stderr
    assert engine.docker("rmi", "-f", "nope", check=False).returncode == 0


def test_save_and_load(engine: Engine, tmp_path: Path) -> None:
    engine.docker("tag", "box:v1", "copy:v1")
    image_id = _inspect(engine, "copy:v1")["Id"]
    archive = tmp_path / "box.tar"
    engine.docker("save", "-o", str(archive), "copy:v1")
    engine.docker("rmi", "copy:v1")
    assert engine.docker("load", "-i", str(archive)).stdout == "Loaded image: copy:v1\n"
    assert _inspect(engine, "copy:v1")["Id"] == image_id
    missing = engine.docker("save", "-o", str(tmp_path / "x.tar"), "nope", check=False)
    assert missing.returncode == 1 and "No such image: nope:latest" in missing.stderr
    archive.write_bytes(archive.read_bytes()[:100_000])
    broken = engine.docker("load", "-i", str(archive), check=False)
    assert broken.returncode == 1 and broken.stderr.strip()


def test_what_needs_a_registry_says_so(engine: Engine) -> None:
    for command in (["pull", "alpine"], ["push", "box:v1"], ["search", "alpine"]):
        refused = engine.docker(*command, check=False)
        assert refused.returncode == 1 and "no registry support" in refused.stderr
    unknown = engine.docker("run", "--rm", "alpine", "true", check=False)
    assert unknown.returncode == 125 and "there is no image alpine:latest on this host" in unknown.stderr


@pytest.mark.parametrize(("options", "name", "data", "message"), [
    ([], "Upper", None, "must be lowercase"),
    ([], "x:y", b"not a tar at all" * 100, "invalid tar header"),
    (["-c", "RUN true"], "x:y", None, "RUN is not a valid change command"),
])
def test_imports_that_fail(
    engine: Engine, root_tar: Path, tmp_path: Path, options: list[str], name: str, data: bytes | None, message: str
) -> None:
    source = root_tar
    if data is not None:
        source = tmp_path / "broken.tar"
        source.write_bytes(data)
    failed = engine.docker("import", *options, str(source), name, check=False)
    assert failed.returncode == 1 and message in failed.stderr
    assert len(engine.docker("images", "-aq").stdout.split()) == 1


def test_build_with_cache_and_errors(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "Dockerfile").write_text(
        "FROM box:v1\nENV A=1\nCOPY file /file\nRUN cat /file > /copy\nCMD cat /copy\n"
    )
    first = engine.docker("build", "-t", "made:v1", "--label", "x=y", ".", cwd=tmp_path).stdout
    assert "Step 1/6 : FROM box:v1" in first and "Successfully tagged made:v1" in first and "Using cache" not in first
    again = engine.docker("build", "-q", "-t", "made:v2", "--label", "x=y", ".", cwd=tmp_path).stdout.strip()
    assert again == _inspect(engine, "made:v1")["Id"]
    assert engine.docker("build", "--label", "x=y", ".", cwd=tmp_path).stdout.count("Using cache") == 5
    assert engine.docker("run", "--rm", "made:v1").stdout == "content"
    assert _inspect(engine, "made:v1")["Config"]["Labels"] == {"tier": "base", "x": "y"}
    (tmp_path / "Dockerfile").write_text("FROM box:v1\nRUN exit 7\n")
    failed = engine.docker("build", ".", cwd=tmp_path, check=False)
    assert failed.returncode == 7 and "returned a non-zero code: 7" in failed.stderr
    (tmp_path / "Dockerfile").write_text("FROM box:v1\nNONSENSE x\n")
    failed = engine.docker("build", ".", cwd=tmp_path, check=False)
    assert failed.returncode == 1 and "Dockerfile:2" in failed.stderr
    (tmp_path / "Dockerfile").write_text("FROM box:v1\nCOPY ../secret /\n")
    assert engine.docker("build", ".", cwd=tmp_path, check=False).returncode == 1


def test_docker_py(engine: Engine) -> None:
    client = docker.DockerClient(base_url=f"unix://{engine.socket}")
    try:
        image = client.images.get("box:v1")
        assert image.tags == ["box:v1"] and image.labels == {"tier": "base"} and image.attrs["Config"]["Cmd"] == ["sh"]
        assert [it.id for it in client.images.list(filters={"label": "tier=base"})] == [image.id]
        assert image.history()[0]["Comment"] == "made here"
        assert image.tag("py", "v1") and client.images.get("py:v1").id == image.id
        data = b"".join(image.save(named=True))
        client.images.remove("py:v1")
        assert [it.id for it in client.images.load(data)] == [image.id]
        with pytest.raises(docker.errors.ImageNotFound, match="No such image"):
            client.images.get("nope")
        with pytest.raises(docker.errors.NotFound, match="no registry support"):
            client.images.pull("alpine")
        assert client.images.prune()["SpaceReclaimed"] == 0
    finally:
        client.close()


def test_a_wrong_platform_is_refused(engine: Engine) -> None:
    ours = f"linux/{architecture()}"
    assert engine.docker("run", "--rm", "--platform", ours, "box:v1", "echo", "here").stdout == "here\n"
    refused = engine.docker("run", "--rm", "--platform", "linux/s390x", "box:v1", "true", check=False)
    assert refused.returncode == 125 and "does not match the specified platform (linux/s390x)" in refused.stderr


def test_events_of_images(engine: Engine) -> None:
    since = f"{time.time():.9f}"
    engine.docker("tag", "box:v1", "told:v1")
    engine.docker("rmi", "told:v1")
    lines = engine.docker(
        "events", "--since", since, "--until", f"{time.time():.9f}", "--filter", "type=image", "--format", "{{json .}}"
    ).stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [(event["Action"], event["Actor"]["Attributes"]["name"]) for event in events] == [
        ("tag", "told:v1"), ("untag", "told:v1"),
    ]
    assert events[0]["id"] == _inspect(engine, "box:v1")["Id"]
