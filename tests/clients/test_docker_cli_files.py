"""The docker command on a container's files: cp both ways, diff, commit, export and import."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_fixture import Engine


@pytest.fixture
def box(engine: Engine) -> Iterator[str]:
    """A running container with a few files."""
    script = "mkdir -p /d/sub; echo one > /d/one; echo two > /d/sub/two; chown 5:6 /d/one; chmod 640 /d/one;" \
        "ln -s /etc/passwd /d/link; ln -s /etc/hostile /d/dangling; exec sleep 1000"
    engine.docker("run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    wait_for(engine, "test -L /d/dangling")
    yield "box"
    engine.docker("rm", "-fv", "box")


def wait_for(engine: Engine, test: str) -> None:
    engine.docker("exec", "box", "sh", "-c", f"until {test}; do usleep 1000; done")


def said(engine: Engine, *command: str) -> str:
    return engine.docker("exec", "box", *command).stdout


def taken(engine: Engine, path: str) -> tarfile.TarFile:
    """`docker cp box:PATH -`."""
    done = subprocess.run(
        ["docker", "cp", f"box:{path}", "-"], env=engine.environment, capture_output=True, timeout=60, check=True
    )
    return tarfile.open(fileobj=io.BytesIO(done.stdout))


@pytest.mark.parametrize("running", [True, False])
def test_cp_out(engine: Engine, box: str, tmp_path: Path, running: bool) -> None:
    if not running:
        engine.docker("kill", box)
    engine.docker("cp", f"{box}:/d/one", str(tmp_path / "new name"))
    assert (tmp_path / "new name").read_text() == "one\n" and (tmp_path / "new name").stat().st_mode & 0o777 == 0o640
    engine.docker("cp", f"{box}:/d", str(tmp_path))
    assert (tmp_path / "d/sub/two").read_text() == "two\n" and os.readlink(tmp_path / "d/link") == "/etc/passwd"
    (tmp_path / "into").mkdir()
    engine.docker("cp", f"{box}:/d/.", str(tmp_path / "into"))
    assert sorted(path.name for path in (tmp_path / "into").iterdir()) == ["dangling", "link", "one", "sub"]
    engine.docker("cp", f"{box}:d/sub/two", str(tmp_path / "into"))
    assert (tmp_path / "into/two").read_text() == "two\n"
    engine.docker("cp", "-L", f"{box}:/d/link", str(tmp_path / "followed"))
    assert "sailor" in (tmp_path / "followed").read_text()
    with taken(engine, "/d/one") as tar:
        (member,) = tar.getmembers()
    assert (member.name, member.uid, member.gid, member.mode) == ("one", 5, 6, 0o640)
    with taken(engine, "/d") as tar:
        assert sorted(tar.getnames()) == ["d", "d/dangling", "d/link", "d/one", "d/sub", "d/sub/two"]


@pytest.mark.parametrize("running", [True, False])
def test_cp_in(engine: Engine, box: str, tmp_path: Path, running: bool) -> None:
    if not running:
        engine.docker("stop", "-t", "0", box)
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/file").write_text("deep\n")
    (tmp_path / "plain").write_text("plain\n")
    (tmp_path / "plain").chmod(0o751)
    os.chown(tmp_path / "plain", 77, 78)
    engine.docker("cp", str(tmp_path / "plain"), f"{box}:/d/renamed")
    engine.docker("cp", str(tmp_path / "plain"), f"{box}:/d")
    engine.docker("cp", "-a", str(tmp_path / "plain"), f"{box}:/d/owned")
    engine.docker("cp", str(tmp_path / "tree"), f"{box}:/d")
    engine.docker("cp", f"{tmp_path}/tree/.", f"{box}:/d/sub")
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        tar.add(tmp_path / "plain", "from-tar")
    with open(tmp_path / "in.tar") as archive:
        engine.docker("cp", "-", f"{box}:/d/sub", stdin=archive)
    if not running:
        engine.docker("start", box)
        wait_for(engine, "test -d /d")
    assert said(engine, "cat", "/d/renamed", "/d/plain", "/d/tree/deep/file", "/d/sub/deep/file", "/d/sub/two") == \
        "plain\nplain\ndeep\ndeep\ntwo\n"
    assert said(engine, "stat", "-c", "%a %u:%g", "/d/plain", "/d/owned", "/d/sub/from-tar") == \
        "751 77:78\n751 77:78\n751 77:78\n"


def test_cp_sees_mounts(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host/file").write_text("of the host\n")
    args = ["-v", f"{tmp_path}/host:/b", "-v", f"{tmp_path}/host:/ro:ro", "-v", "named:/v"]
    engine.docker("create", "--name", "box", *args, "busybox", "true")
    try:
        engine.docker("cp", "box:/b/file", str(tmp_path / "out"))
        assert (tmp_path / "out").read_text() == "of the host\n"
        engine.docker("cp", str(tmp_path / "out"), "box:/b/new")
        assert (tmp_path / "host/new").read_text() == "of the host\n"
        engine.docker("cp", str(tmp_path / "out"), "box:/v/")
        assert engine.docker("run", "--rm", "-v", "named:/v", "busybox", "ls", "/v").stdout == "out\n"
        done = engine.docker("cp", str(tmp_path / "out"), "box:/ro/new", check=False)
        assert done.returncode == 1 and "marked read-only" in done.stderr
    finally:
        engine.docker("rm", "-fv", "box")
        engine.docker("volume", "rm", "named")


@pytest.mark.parametrize(("source", "target", "words"), [
    ("box:/nothing", "{tmp}", "Could not find the file /nothing in container box"),
    ("box:/d/one/x", "{tmp}", "Could not find the file /d/one/x in container box"),
    ("{tmp}/file", "box:/no/such/", "no such directory"),
    ("{tmp}/file", "box:/no/such", "Could not find the file /no in container box"),
    ("{tmp}/nothing", "box:/d", "no such file or directory"),
    ("{tmp}/dir", "box:/d/one", "cannot copy directory"),
    ("nosuch:/x", "{tmp}", "No such container: nosuch"),
    ("box:/d", "box:/e", "copying between containers is not supported"),
])
def test_cp_that_fails(engine: Engine, box: str, tmp_path: Path, source: str, target: str, words: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dir").mkdir()
    before = said(engine, "ls", "-lR", "/d", "/etc")
    done = engine.docker("cp", source.format(tmp=tmp_path), target.format(tmp=tmp_path), check=False)
    assert done.returncode == 1 and words in done.stderr
    assert said(engine, "ls", "-lR", "/d", "/etc") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir", "file"]


def test_cp_through_a_link_stays_inside(engine: Engine, box: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine\n")
    target = f"/tmp/never-on-the-host-{os.getpid()}"
    said(engine, "sh", "-c", f"mkdir {target}; ln -s {target} /d/away; ln -s ../../../../../.. /d/up")
    engine.docker("cp", str(tmp_path / "file"), f"{box}:/d/away/file")
    assert said(engine, "cat", f"{target}/file") == "mine\n" and not os.path.lexists(target)
    engine.docker("cp", f"{box}:/d/up/etc/passwd", str(tmp_path / "passwd"))
    assert "sailor" in (tmp_path / "passwd").read_text()


def test_cp_into_a_volume_behind_a_link_stays_inside(engine: Engine, box: str, tmp_path: Path) -> None:
    """CVE-2018-15664, CVE-2025-9566: the mount point of a container that does not run is a link out of it."""
    (tmp_path / "file").write_text("mine\n")
    target = f"/tmp/never-on-the-host-{os.getpid()}"
    said(engine, "ln", "-s", f"../../../../../../{target}", "/v")
    engine.docker("commit", box, "linked:v1")
    engine.docker("create", "--name", "still", "-v", "cargo:/v", "linked:v1", "true")
    try:
        engine.docker("cp", str(tmp_path / "file"), "still:/v/")
        assert not os.path.lexists(target)
        assert engine.docker("run", "--rm", "-v", "cargo:/c", "busybox", "cat", "/c/file").stdout == "mine\n"
    finally:
        engine.docker("rm", "-fv", "still")
        engine.docker("rmi", "linked:v1")
        engine.docker("volume", "rm", "cargo")


def test_diff(engine: Engine, box: str) -> None:
    said(engine, "sh", "-c", "rm /etc/group; echo x >> /etc/passwd; rm -r /home; chmod 711 /root")
    lines = engine.docker("diff", box).stdout.splitlines()
    assert sorted(lines) == [
        "A /d", "A /d/dangling", "A /d/link", "A /d/one", "A /d/sub", "A /d/sub/two", "C /etc", "C /etc/passwd",
        "C /root", "D /etc/group", "D /home",
    ]


def test_commit(engine: Engine, box: str) -> None:
    engine.docker("exec", box, "rm", "/etc/group")
    args = ["-m", "why", "-a", "who", "-c", "ENV A=b", "-c", 'CMD ["cat", "/d/one"]', "-c", "USER sailor:5"]
    id = engine.docker("commit", *args, box, "made:v1").stdout.strip()
    try:
        (image,) = json.loads(engine.docker("image", "inspect", "made:v1").stdout)
        assert image["Id"] == id and image["Author"] == "who" and image["Comment"] == "why"
        assert image["Config"]["User"] == "sailor:5" and "A=b" in image["Config"]["Env"]
        assert len(image["RootFS"]["Layers"]) == 2
        script = "cat /d/one /etc/group 2>&1; echo $A; stat -c %u:%g:%a /d/one"
        done = engine.docker("run", "--rm", "-u", "root", "made:v1", "sh", "-c", script).stdout
        assert done == "one\ncat: can't open '/etc/group': No such file or directory\nb\n5:6:640\n"
        assert engine.inspect(box)["State"]["Running"]
    finally:
        engine.docker("rmi", "made:v1")


def test_export_and_import(engine: Engine, box: str, tmp_path: Path) -> None:
    engine.docker("export", "-o", str(tmp_path / "root.tar"), box)
    with tarfile.open(tmp_path / "root.tar") as tar:
        names = tar.getnames()
        assert {"d/sub/two", "etc/passwd", "bin/busybox"} <= set(names)
        assert not [name for name in names if name.startswith(("proc/", "sys/", "dev/p", "/"))]
        assert tar.getmember("d/one").uid == 5
    try:
        engine.docker("import", str(tmp_path / "root.tar"), "flat:v1")
        assert engine.docker("run", "--rm", "flat:v1", "cat", "/d/one").stdout == "one\n"
        engine.docker("import", "-", "piped:v1", stdin=open(tmp_path / "root.tar"))  # noqa: SIM115
    finally:
        engine.docker("rmi", "-f", "flat:v1", "piped:v1", check=False)
