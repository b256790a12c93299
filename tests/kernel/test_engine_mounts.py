"""Binds, volumes and tmpfs of a container; files put into it and taken out of it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_fixture import Engine, busybox_tar, engine


@pytest.fixture(scope="module")
def boat() -> Iterator[Engine]:
    with engine() as made:
        made.import_image("stocked", stocked())
        yield made


def stocked() -> bytes:
    """busybox with /data/{file,sub/}, owned by sailor."""
    out = io.BytesIO(busybox_tar())
    with tarfile.open(fileobj=out, mode="a") as tar:
        for name, kind, mode, content in (
            ("data", tarfile.DIRTYPE, 0o750, b""), ("data/sub", tarfile.DIRTYPE, 0o700, b""),
            ("data/file", tarfile.REGTYPE, 0o640, b"from the image\n"),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.size, entry.uid, entry.gid = kind, mode, len(content), 1000, 1000
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def output(boat: Engine, *command: str, **body: object) -> str:
    id = boat.run(*command, Tty=True, **body)
    code = boat.wait(id)
    out = boat.docker("logs", id).stdout.replace("\r\n", "\n")
    assert code == 0, out
    return out


@pytest.fixture(autouse=True)
def tidy(boat: Engine) -> Iterator[None]:
    yield
    boat.remove_containers()
    for volume in boat.ask("GET", "/volumes")["Volumes"]:
        boat.ask("DELETE", f"/volumes/{volume['Name']}")


def test_bind(boat: Engine) -> None:
    source = boat.directory / "given"
    source.mkdir()
    (source / "x").write_text("on the host\n")
    binds = [f"{source}:/a", f"{source}:/b:ro", f"{boat.directory}/made-by-v:/c"]
    script = "cat /a/x /b/x; echo > /a/new; touch /b/no 2>&1; ls -d /c"
    out = output(boat, "sh", "-c", script, HostConfig={"Binds": binds})
    assert out == "on the host\non the host\ntouch: /b/no: Read-only file system\n/c\n"
    assert (source / "new").exists() and (boat.directory / "made-by-v").is_dir()


def test_mounts_are_inspected(boat: Engine) -> None:
    id = boat.create("true", HostConfig={
        "Binds": ["/tmp:/a:ro", "named:/b"],
        "Mounts": [{"Type": "tmpfs", "Target": "/c"}, {"Type": "volume", "Target": "/d", "ReadOnly": True}],
    }, Volumes={"/e": {}})
    mounts = {it["Destination"]: it for it in boat.inspect(id)["Mounts"]}
    assert [(path, it["Type"], it["RW"]) for path, it in mounts.items()] == [
        ("/a", "bind", False), ("/b", "volume", True), ("/c", "tmpfs", True), ("/d", "volume", False),
        ("/e", "volume", True),
    ]
    assert mounts["/b"]["Name"] == "named" and len(mounts["/d"]["Name"]) == 64
    assert mounts["/b"]["Source"].endswith("/volumes/named/_data")
    assert {it["Name"] for it in boat.ask("GET", "/volumes")["Volumes"]} >= {"named", mounts["/e"]["Name"]}
    assert "volume is in use" in boat.request("DELETE", "/volumes/named")[1]["message"]
    boat.ask("DELETE", f"/containers/{id}?v=1")
    assert [it["Name"] for it in boat.ask("GET", "/volumes")["Volumes"]] == ["named"]


def test_volume_is_filled_from_the_image_once(boat: Engine) -> None:
    script = "stat -c '%n %u %a' /data /data/sub /data/file; cat /data/file"
    wanted = "/data 1000 750\n/data/sub 1000 700\n/data/file 1000 640\nfrom the image\n"
    config = {"Binds": ["stock:/data"]}
    assert output(boat, "sh", "-c", script, image="stocked", HostConfig=config) == wanted
    output(boat, "rm", "/data/file", image="stocked", HostConfig=config)
    assert output(boat, "ls", "/data", image="stocked", HostConfig=config) == "sub\n"
    config = {"Binds": ["empty:/data:nocopy"]}
    assert output(boat, "ls", "/data", image="stocked", HostConfig=config) == ""


def test_anonymous_volume_goes_with_rm(boat: Engine) -> None:
    id = boat.create("true", Volumes={"/data": {}}, HostConfig={"AutoRemove": True})
    assert len(boat.ask("GET", "/volumes")["Volumes"]) == 1
    boat.ask("POST", f"/containers/{id}/start")
    boat.request("POST", f"/containers/{id}/wait?condition=removed")
    assert boat.ask("GET", "/volumes")["Volumes"] == []


def test_volumes_from(boat: Engine) -> None:
    boat.create("true", name="owner", HostConfig={"Binds": ["shared:/data"]})
    output(boat, "sh", "-c", "echo hi > /data/x", HostConfig={"VolumesFrom": ["owner"]})
    script = "cat /data/x; touch /data/y || echo refused"
    out = output(boat, "sh", "-c", script, HostConfig={"VolumesFrom": ["owner:ro"]})
    assert out.startswith("hi\n") and out.endswith("refused\n")


def test_tmpfs_and_read_only_root(boat: Engine) -> None:
    config = {"Tmpfs": {"/t": "size=64k,mode=700"}, "ReadonlyRootfs": True}
    out = output(boat, "sh", "-c", "touch /t/ok; stat -c %a /t; touch /no 2>&1; true", HostConfig=config)
    assert out == "700\ntouch: /no: Read-only file system\n"


def test_files_go_in_and_out(boat: Engine) -> None:
    for state in ("created", "running", "exited"):
        id = boat.create("sleep", "1000", name=f"box-{state}", HostConfig={"Binds": ["held:/held"]})
        if state != "created":
            boat.ask("POST", f"/containers/{id}/start")
        if state == "exited":
            boat.ask("POST", f"/containers/{id}/kill")
        source = boat.directory / "send"
        source.write_text(f"{state}\n")
        boat.docker("cp", str(source), f"{id}:/tmp/got")
        boat.docker("cp", f"{id}:/tmp/got", str(boat.directory / "back"))
        assert (boat.directory / "back").read_text() == f"{state}\n"
        missing = boat.docker("cp", f"{id}:/nosuch", "-", check=False)
        assert missing.returncode and "Could not find the file /nosuch" in missing.stderr
        kinds = boat.ask("GET", f"/containers/{id}/changes")
        assert {"Path": "/tmp/got", "Kind": 1} in kinds and {"Path": "/tmp", "Kind": 0} in kinds
        exported = boat.docker("export", "-o", str(boat.directory / "out.tar"), id)
        assert exported.returncode == 0
        with tarfile.open(boat.directory / "out.tar") as tar:
            assert "tmp/got" in tar.getnames() and "proc/1" not in tar.getnames()


def test_written_into_a_running_containers_mounts(boat: Engine) -> None:
    id = boat.run("sleep", "1000", HostConfig={"Tmpfs": {"/t": ""}})
    source = boat.directory / "send"
    source.write_text("x")
    boat.docker("cp", str(source), f"{id}:/t/got")
    assert boat.docker("exec", id, "cat", "/t/got").stdout == "x"


def test_commit(boat: Engine) -> None:
    id = boat.run("sh", "-c", "echo kept > /kept; exec sleep 1000")
    made = boat.docker(
        "commit", "-m", "why", "-a", "me", "-c", 'CMD ["cat","/kept"]', "-c", "ENV A=b", id, "made:v1"
    ).stdout.strip()
    assert boat.state(id)["Status"] == "running"
    image = boat.ask("GET", "/images/made:v1/json")
    assert image["Id"] == made and image["Config"]["Cmd"] == ["cat", "/kept"] and "A=b" in image["Config"]["Env"]
    assert image["Comment"] == "why" and image["Author"] == "me" and len(image["RootFS"]["Layers"]) == 2
    assert boat.docker("run", "--rm", "made:v1").stdout == "kept\n"
    boat.ask("DELETE", "/images/made:v1")


def test_root_looks_like_the_images(boat: Engine) -> None:
    assert output(boat, "stat", "-c", "%a %u", "/") == "755 0\n"


def test_sizes(boat: Engine) -> None:
    id = boat.run("sh", "-c", "head -c 100000 /dev/zero > /x")
    boat.wait(id)
    found = boat.ask("GET", f"/containers/{id}/json?size=1")
    assert 100000 <= found["SizeRw"] < 110000 and found["SizeRootFs"] > found["SizeRw"]
    assert Path(found["GraphDriver"]["Data"]["UpperDir"], "x").stat().st_size == 100000
