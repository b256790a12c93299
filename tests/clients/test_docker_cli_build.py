"""`docker build` against the engine: RUN steps in real containers, and what stays of them."""

from __future__ import annotations

import io
import json
import os
import select
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from engine_fixture import Engine
from engine_fixture import engine as new_engine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers need root here")


@pytest.fixture(scope="module")
def boat() -> Iterator[Engine]:
    with new_engine() as boat:
        yield boat


@pytest.fixture
def build(boat: Engine, tmp_path: Path) -> Iterator[Build]:
    yield Build(boat, tmp_path)
    assert boat.request("GET", "/containers/json?all=1")[1] == []
    assert os.listdir(boat.data_root / "tmp") == [], "half-made things"


class Build:
    """Builds of one test."""

    def __init__(self, boat: Engine, context: Path) -> None:
        self._boat = boat
        self.context = context

    def __call__(
        self, dockerfile: str, *options: str, files: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        for name, content in {**(files or {}), "Dockerfile": dockerfile}.items():
            (self.context / name).write_text(content)
        return self._boat.docker("build", *options, "-t", "made", str(self.context), check=check)

    def fails(self, dockerfile: str, *options: str) -> str:
        done = self(dockerfile, *options, check=False)
        assert done.returncode != 0, done.stdout
        return done.stderr.strip().splitlines()[-1]

    def layers(self) -> list[list[str]]:
        """The names in each layer of the image, bottom first, as `docker save` has them."""
        archive = self._boat.docker("save", "made", "-o", str(self.context / "saved.tar"))
        assert archive.returncode == 0
        found = []
        with tarfile.open(self.context / "saved.tar") as saved:
            (entry,) = json.load(saved.extractfile("manifest.json"))  # type: ignore[arg-type]
            for name in entry["Layers"]:
                layer = saved.extractfile(name)
                assert layer is not None
                with tarfile.open(fileobj=io.BytesIO(layer.read())) as files:
                    found.append(sorted(files.getnames()))
        (self.context / "saved.tar").unlink()
        return found


def test_a_step_runs_in_a_container_of_its_own(build: Build) -> None:
    done = build(
        "FROM busybox\nENV A=1\nARG B=2\nWORKDIR /w\nUSER sailor\n"
        "RUN echo $$ $(hostname | wc -c) $(id -u) $(pwd) $A$B $HOME; cat /proc/1/comm; ls -d /sys/class/net/*\n"
    )
    assert "1 13 1000 /w 12 /home\n" in done.stdout
    assert "\nsh\n" in done.stdout and "/sys/class/net/eth0" in done.stdout


def test_layers_hold_what_the_step_wrote_and_no_mount_point(build: Build) -> None:
    build("FROM busybox\nRUN true\nRUN echo x >/x && rm /bin/vi\nRUN cat /etc/hosts /etc/resolv.conf /etc/hostname\n")
    base, written = build.layers()
    assert written == ["bin", "bin/.wh.vi", "x"] and "etc/hosts" not in base


def test_an_image_from_nothing(build: Build) -> None:
    (build.context / "sh").write_bytes(Path("/bin/busybox").read_bytes())
    (build.context / "sh").chmod(0o755)
    build("FROM scratch\nCOPY sh /bin/\nRUN [\"/bin/sh\", \"-c\", \"echo hi > /hi\"]\nRUN echo $PATH\n")
    assert build.layers() == [["bin", "bin/sh"], ["hi"]]


def test_networks(build: Build) -> None:
    done = build("FROM busybox\nRUN --network=none ls /sys/class/net\nRUN ls /sys/class/net\n", "--no-cache")
    assert done.stdout.count("eth0") == 1
    assert "eth0" not in build("FROM busybox\nRUN ls /sys/class/net\n", "--no-cache", "--network", "none").stdout
    done = build("FROM busybox\nRUN cat /etc/hosts\n", "--no-cache", "--add-host", "quay:192.0.2.7")
    assert "192.0.2.7\tquay" in done.stdout


def test_limits(build: Build) -> None:
    done = build("FROM busybox\nRUN df -k /dev/shm | tail -1; ulimit -n\n", "--shm-size", "1m", "--ulimit",
        "nofile=77:88")
    assert "1024" in done.stdout and "\n77\n" in done.stdout
    said = build.fails("FROM busybox\nRUN x=$(head -c 60000000 /dev/zero | tail)\n", "--memory", "16m")
    assert "returned a non-zero code: 137" in said or "non-zero code" in said


def test_heredoc_scripts(build: Build) -> None:
    done = build("FROM busybox\nRUN <<E\necho one\ncat <<X\ntwo\nX\nE\nRUN <<E\n#!/bin/sed 1d;s/three/3/p\nthree\nE\n")
    assert "one\ntwo\n" in done.stdout and "3\n3\n" in done.stdout
    assert len(build.layers()) == 1, "the script is mounted, not written"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("RUN echo no >&2; exit 3", "The command '/bin/sh -c echo no >&2; exit 3' returned a non-zero code: 3"),
        ("RUN nope", "The command '/bin/sh -c nope' returned a non-zero code: 127"),
        ('RUN ["nope"]', 'exec: "nope": executable file not found in $PATH'),
        ("USER nobody-here\nRUN true", "unable to find user nobody-here: no matching entries in passwd file"),
        ('SHELL ["/nope"]\nRUN true', "/nope"),
    ],
)
def test_failures(build: Build, step: str, message: str) -> None:
    assert message in build.fails(f"FROM busybox\n{step}\n")


def test_context_errors_reach_the_client(build: Build) -> None:
    assert "Dockerfile:2: unknown instruction: RNU (did you mean RUN?)" in build.fails("FROM busybox\nRNU x\n")
    assert build.fails("FROM busybox\nCOPY nope /\n") == (
        "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist"
    )
    assert "No such image: nope:latest" in build.fails("FROM nope\n")


def test_two_stages_share_nothing_but_the_copy(build: Build) -> None:
    build("FROM busybox AS k\nRUN mkdir /out && echo cooked >/out/dish\nFROM scratch\nCOPY --from=k /out /\n")
    assert build.layers() == [["dish"]]


def test_a_hostile_base_image_stays_in_its_container(build: Build, boat: Engine, tmp_path: Path) -> None:
    """CVE-2024-21626, CVE-2025-31133: mount points and the working directory are links to the host."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, target in (
            ("etc/hosts", str(tmp_path / "victim")),
            ("etc/resolv.conf", "../../../../../.." + str(tmp_path / "victim")),
            ("w", "/proc/self/fd/8"), ("dev", str(tmp_path)), ("sys", "/proc"),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    boat.import_image("hostile", out.getvalue())
    (tmp_path / "victim").write_text("untouched")
    before = sorted(os.listdir(tmp_path))
    (build.context / "sh").write_bytes(Path("/bin/busybox").read_bytes())
    (build.context / "sh").chmod(0o755)
    build("FROM hostile\nCOPY sh /bin/sh\nWORKDIR /w\nRUN echo x > here; echo y > /etc/hosts || true\n", check=False)
    assert (tmp_path / "victim").read_text() == "untouched"
    assert {"sh", "Dockerfile", *before} == set(os.listdir(tmp_path))


def test_a_client_that_goes_away_ends_the_build(build: Build, boat: Engine) -> None:
    (build.context / "Dockerfile").write_text("FROM busybox\nRUN touch /kept\nRUN echo waiting; exec sleep 3600\n")
    with subprocess.Popen(
        ["docker", "build", str(build.context)], env=boat.environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as client:
        assert client.stdout is not None
        assert "waiting\n" in iter(client.stdout.readline, "")
        asleep = _pidfd_of(b"sleep\x003600\0")
        client.kill()
    try:
        assert select.select([asleep], [], [], 30)[0], "the step runs on"
    finally:
        os.close(asleep)
    assert "Using cache" in build("FROM busybox\nRUN touch /kept\n").stdout


def _pidfd_of(command: bytes) -> int:
    """The process with this command line, once it is there: its shell has said so, exec follows at once."""
    while True:
        for directory in Path("/proc").iterdir():
            if directory.name.isdigit() and _command(directory) == command:
                return os.pidfd_open(int(directory.name))


def _command(directory: Path) -> bytes:
    try:
        return (directory / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_the_cache_outlives_the_engine(tmp_path: Path) -> None:
    with new_engine() as boat:
        build = Build(boat, tmp_path)
        first = build("FROM busybox\nRUN echo once > /once\nCOPY f /f\n", files={"f": "F"})
        boat.kill()
        boat.start()
        again = build("FROM busybox\nRUN echo once > /once\nCOPY f /f\n", files={"f": "F"})
        assert again.stdout.count("Using cache") == 2
        assert again.stdout.splitlines()[-2] == first.stdout.splitlines()[-2]
