"""Bad input to images: invalid Dockerfiles, contexts and archives, a full disk. One sentence, and nothing half-made."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine_fixture import Engine, busybox_tar
from engine_fixture import engine as new_engine

VARYING = ("berths", "trash", "seccomp", "state.db", "state.db-wal", "state.db-shm")
COMMANDS = ("docker", "sampan")


def things(engine: Engine) -> dict[str, Any]:
    return {
        "containers": [it["Id"] for it in engine.ask("GET", "/containers/json?all=1")],
        "images": {it["Id"]: it["RepoTags"] for it in engine.ask("GET", "/images/json?all=1")},
        "data root": sorted(
            str(path) for top in engine.data_root.iterdir() if top.name not in VARYING for path in top.glob("**/*")
            if not path.is_relative_to(engine.data_root / "layers") or path.parent.name == "layers"
        ),
        "exec root": sorted(str(path) for path in engine.exec_root.glob("*/*")),
        "cgroups": sorted(str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{engine.cgroup_parent}/*/")),
        "mounts": Path(f"/proc/{engine.pid}/mountinfo").read_text(),
    }


@pytest.fixture
def nothing_left(engine: Engine) -> Iterator[None]:
    before = things(engine)
    yield
    engine.ask("POST", "/build/prune?all=1")  # steps that went well may stay as cache
    assert things(engine) == before


def run(engine: Engine, command: str, *args: str, **how: Any) -> subprocess.CompletedProcess[str]:
    start = ["docker"] if command == "docker" else [sys.executable, "-m", "sampan.cli"]
    environment = {**engine.environment, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run([*start, *args], env=environment, capture_output=True, timeout=60, **how)
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    assert "Traceback" not in err and "internal error" not in err
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What was said last."""
    around = ("Run '", "See '", "Usage:", "DEPRECATED", " ")
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith(around)]
    return lines[-1] if lines else ""


DOCKERFILES = {
    "instruction": ("FROM busybox\nRUN true\nFLY away\n", "Dockerfile:3: unknown instruction: FLY"),
    "misspelt": ("FROM busybox\nCOYP a b\n", "Dockerfile:2: unknown instruction: COYP (did you mean COPY?)"),
    "empty": ("", "Dockerfile:1: file with no instructions"),
    "comments alone": ("# nothing\n\n", "file with no instructions"),
    "no FROM": ("RUN true\n", "Dockerfile:1: no build stage in current context: FROM must come before RUN"),
    "FROM what": ("FROM\n", "Dockerfile:1: FROM requires either one argument, or three"),
    "FROM unknown": ("FROM nosuch:v3\n", "No such image: nosuch:v3"),
    "FROM invalid": ("FROM No/Such\n", "invalid reference format"),
    "ENV": ("FROM busybox\n\nENV\n", "Dockerfile:3: ENV requires at least one argument"),
    "ENV without value": ("FROM busybox\nENV A=b C\n", "Dockerfile:2:"),
    "COPY": ("FROM busybox\nCOPY one\n", "Dockerfile:2: COPY requires at least two arguments"),
    "flag": ("FROM busybox\nCOPY --fly=1 a b\n", "Dockerfile:2: unknown flag: --fly"),
    "flag's value": ("FROM busybox\nCOPY --chmod=fly file /\n", "fly"),
    "EXPOSE": ("FROM busybox\nEXPOSE 99999\n", "Dockerfile:2: invalid containerPort: 99999: a port or a range"),
    "STOPSIGNAL": ("FROM busybox\nSTOPSIGNAL FLY\n", "Dockerfile:2: invalid signal: FLY"),
    "HEALTHCHECK": ("FROM busybox\nHEALTHCHECK --interval=1 CMD x\n", 'Dockerfile:2: time: invalid duration "1"'),
    "VOLUME": ('FROM busybox\nVOLUME [""]\n', "Dockerfile:2: VOLUME specified can not be an empty string"),
    "heredoc": ("FROM busybox\nRUN <<E\necho\n", "Dockerfile:2: unterminated heredoc"),
    "expansion": ("FROM busybox\nENV A=${B:?no-B}\n", "no-B"),
    "quote": ('FROM busybox\nLABEL a="b\n', "Dockerfile:2:"),
    "WORKDIR is a file": ("FROM busybox\nWORKDIR /etc/passwd\n", "/etc/passwd is not a directory"),
    "USER": ("FROM busybox\nUSER nobody-here\nRUN true\n", "unable to find user nobody-here: no matching entries"),
    "RUN": ("FROM busybox\nRUN exit 9\n", "The command '/bin/sh -c exit 9' returned a non-zero code: 9"),
    "RUN what": ('FROM busybox\nRUN ["nosuch"]\n', 'exec: "nosuch": executable file not found in $PATH'),
    "missing file": ("FROM busybox\nCOPY nothere /\n", "file not found in build context or excluded by .dockerignore"),
    "outside": ("FROM busybox\nCOPY ../outside /\n", "forbidden path outside the build context: ../outside"),
    "outside by a link": ("FROM busybox\nCOPY link /\n", "file not found in build context"),
    "outside by a directory": ("FROM busybox\nCOPY up/outside /\n", "file not found in build context"),
    "ignored": ("FROM busybox\nCOPY ignored /\n", "file not found in build context or excluded by .dockerignore"),
    "onto a file": ("FROM busybox\nCOPY file ignored2 /etc/passwd\n", "the destination must be a directory"),
    "from a stage": ("FROM busybox\nCOPY --from=nosuch a b\n", "nosuch"),
    "from itself": ("FROM busybox AS a\nCOPY --from=a /etc /x\n", "a"),
    "binary": ("\0\1\2\xff", "Dockerfile:1:"),
    "endless line": ("FROM busybox\nRUN " + "x" * 3_000_000 + "\n", "is larger than the"),
}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A build context in a directory that holds more than it."""
    (tmp_path / "outside").write_text("not yours")
    context = tmp_path / "context"
    context.mkdir()
    for name in ("file", "ignored", "ignored2"):
        (context / name).write_text(name)
    (context / ".dockerignore").write_text("ignored\n")
    (context / "link").symlink_to("../outside")
    (context / "up").symlink_to("..")
    return context


@pytest.mark.parametrize("name", DOCKERFILES)
@pytest.mark.parametrize("command", COMMANDS)
def test_dockerfile(engine: Engine, nothing_left: None, context: Path, command: str, name: str) -> None:
    text, words = DOCKERFILES[name]
    (context / "Dockerfile").write_bytes(text.encode("latin-1"))
    done = run(engine, command, "build", "--force-rm", "-t", "made", str(context))
    assert done.returncode == (9 if name == "RUN" else 1) and words in sentence(done), done.stderr[-500:]
    assert len(sentence(done)) < 400


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("args", "code", "words"), [
    (["-t", "Not:Valid:", "{context}"], 125, "invalid reference format"),
    (["-f", "nosuch", "{context}"], 1, "nosuch"),
    (["--target", "nosuch", "{context}"], 1, 'target stage "nosuch" could not be found'),
    (["{context}/nosuch"], 1, "nosuch"),
    (["--nosuch", "{context}"], 125, "unknown flag: --nosuch"),
    (["--no-cache", "--network", "nosuch", "{context}"], 1, "nosuch"),
    (["--no-cache", "-m", "1m", "{context}"], 1, "Minimum memory limit allowed is 6MB"),
])
def test_build_options(
    engine: Engine, nothing_left: None, context: Path, command: str, args: list[str], code: int, words: str
) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN true\n")
    done = run(engine, command, "build", *(arg.format(context=context) for arg in args))
    assert words in done.stderr and done.returncode in (code, 1), done


def archives() -> dict[str, tuple[bytes, str]]:
    """Broken ones, and what is said of each."""
    whole = busybox_tar()
    huge = io.BytesIO()
    with tarfile.open(fileobj=huge, mode="w") as tar:
        entry = tarfile.TarInfo("x")
        entry.size = 1 << 40
        tar.addfile(entry)
    return {
        "junk": (os.urandom(5000), "invalid tar header: the checksum"),
        "text": (b"hello world\n" * 1000, "invalid tar header"),
        "cut short": (whole[:200_000], "unexpected end of the archive"),
        "cut in the header": (whole[:300], "unexpected end of the archive"),
        "cut gzip": (gzip.compress(whole, 1)[:100_000], "unexpected end of the archive"),
        "gzip with rubbish": (gzip.compress(whole, 1)[:5000] + os.urandom(5000), ""),
        "longer than it is": (huge.getvalue(), "unexpected end of the archive"),
        "empty": (b"", "empty"),
    }


@pytest.mark.parametrize("name", archives())
@pytest.mark.parametrize("command", COMMANDS)
def test_broken_archives(engine: Engine, nothing_left: None, tmp_path: Path, command: str, name: str) -> None:
    content, words = archives()[name]
    path = tmp_path / "archive"
    path.write_bytes(content)
    for args, how in ((["import", str(path), "bad:v1"], {}), (["load", "-i", str(path)], {})):
        done = run(engine, command, *args, **how)
        assert done.returncode == 1 and sentence(done), done
        assert words in sentence(done) or (name == "empty" and "no image" in sentence(done))
    done = run(engine, command, "build", "-", input=content)
    assert done.returncode == 1 and sentence(done), done


@pytest.mark.parametrize("command", COMMANDS)
def test_tar_without_an_image(engine: Engine, nothing_left: None, tmp_path: Path, command: str) -> None:
    (tmp_path / "root.tar").write_bytes(busybox_tar())
    done = run(engine, command, "load", "-i", str(tmp_path / "root.tar"))
    assert done.returncode == 1 and "the archive holds no image" in sentence(done) and "import" in sentence(done)
    for args in ("import /no/such", "load -i /no/such", f"import {tmp_path}/root.tar Not:Valid:"):
        done = run(engine, command, *args.split())
        assert done.returncode == 1 and sentence(done)


def test_hostile_images(engine: Engine, nothing_left: None, tmp_path: Path) -> None:
    """CVE-2014-9356, CVE-2021-21285: a manifest's path leads out, a manifest is no manifest."""
    for manifest, words in (
        (b'[{"Config": "../../../etc/passwd", "Layers": []}]', ""), (b"[]", ""), (b"{}", ""), (b"[null]", ""),
        (b'[{"Config": 5, "Layers": {}}]', ""), (b"[" * 100_000, ""), (b'[{"Config": "c", "Layers": ["nosuch"]}]', "c"),
    ):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            entry = tarfile.TarInfo("manifest.json")
            entry.size = len(manifest)
            tar.addfile(entry, io.BytesIO(manifest))
        done = run(engine, "docker", "load", input=out.getvalue())
        assert done.returncode == 1 and sentence(done) and words in sentence(done) and len(sentence(done)) < 400


# -- a full disk

@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine whose data root is a tmpfs of 24 MB; half of it is the base image and the database."""
    place = tmp_path_factory.mktemp("small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "small", place], check=True)
    try:
        with new_engine(data_root=place) as engine:
            yield engine
    finally:
        subprocess.run(["umount", place], check=True)


def used(engine: Engine) -> int:
    """Bytes of all that is not VARYING, once what was removed is deleted, as happens in the background."""
    deadline = time.monotonic() + 20
    while any((engine.data_root / "trash").iterdir()):
        assert time.monotonic() < deadline, "the trash is not emptied"
        engine.ask("GET", "/info")
    kept = [f"{engine.data_root}/{name}" for name in os.listdir(engine.data_root) if name not in VARYING]
    done = subprocess.run(["du", "-scB1", *kept], capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1].split()[0])


FULL = "no space left on device"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("step", ["RUN dd if=/dev/zero of=/big bs=1M count=30", "COPY big /", "ADD big.tar /x/"])
def test_full_while_building(small: Engine, tmp_path: Path, command: str, step: str) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM busybox\n{step}\n")
    if "big.tar" in step:
        with tarfile.open(tmp_path / "big.tar", "w") as tar:
            entry = tarfile.TarInfo("big")
            entry.size = 30 << 20
            tar.addfile(entry, io.BytesIO(os.urandom(30 << 20)))
    elif "COPY" in step:
        (tmp_path / "big").write_bytes(os.urandom(12 << 20))
    before, size = things(small), used(small)
    done = run(small, command, "build", "--force-rm", "-t", "made", str(tmp_path))
    assert done.returncode != 0, done.stdout
    if step.startswith("RUN"):
        assert "No space left on device" in done.stdout + done.stderr and "non-zero code: 1" in sentence(done)
    else:
        assert FULL in sentence(done).lower(), done
    assert things(small) == before and used(small) <= size
    assert small.docker("run", "--rm", "busybox", "echo", "goes on").stdout == "goes on\n"


def test_full_while_importing_and_loading(small: Engine, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "big.tar", "w") as tar:
        entry = tarfile.TarInfo("big")
        entry.size = 40 << 20
        tar.addfile(entry, io.BytesIO(os.urandom(1 << 20) * 40))
    with tarfile.open(tmp_path / "image.tar", "w") as tar:
        tar.add(tmp_path / "big.tar", "layer.tar")
    before, size = things(small), used(small)
    for args in (["import", str(tmp_path / "big.tar"), "big"], ["load", "-i", str(tmp_path / "image.tar")]):
        done = run(small, "docker", *args)
        assert done.returncode == 1 and FULL in sentence(done).lower(), done
        assert things(small) == before and used(small) <= size


def test_full_disk_does_not_stop_what_runs(small: Engine, tmp_path: Path) -> None:
    """Containers can be looked into, stopped and removed when there is no byte left; that gives room again."""
    small.docker("run", "-d", "--name", "hog", "busybox", "sh", "-c", "echo up; exec sleep 1000")
    full = small.docker("exec", "hog", "dd", "if=/dev/zero", "of=/big", "bs=64k", check=False)
    assert full.returncode == 1 and "No space left on device" in full.stderr
    (tmp_path / "file").write_bytes(b"x" * 500_000)
    done = run(small, "docker", "cp", str(tmp_path / "file"), "hog:/file")
    assert done.returncode == 1 and FULL in sentence(done).lower(), done
    done = run(small, "docker", "run", "--name", "late", "-v", "vol:/v", "busybox", "true")
    assert done.returncode in (0, 125) and (done.returncode == 0 or FULL in sentence(done).lower()), done
    assert small.docker("exec", "hog", "echo", "alive").stdout == "alive\n"
    assert small.docker("logs", "hog").stdout == "up\n" and "hog" in small.docker("ps").stdout
    small.docker("stop", "-t", "0", "hog")
    small.docker("rm", "-f", "hog", "late")
    used(small)
    assert small.docker("run", "--rm", "busybox", "echo", "room").stdout == "room\n"
