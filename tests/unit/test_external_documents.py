"""The pure parts of running containers with other OCI runtimes: documents, errors, names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.engine.runtimes import Runtimes
from sampan.engine.spec import Made, portable
from sampan.errors import InvalidArgument, Unsupported
from sampan.linux.cgroup.features import Features
from sampan.oci import runtime as oci
from sampan.runtime.users import Identity
from sampan.shim.external import document, failure

SAILOR = Identity(1000, 20, (20, 30), "/home")


def make_spec() -> oci.Spec:
    kinds = ("pid", "mount", "network", "uts", "user")
    return oci.Spec(
        process=oci.Process(args=["true"], env=["A=1"], user=oci.User(username="sailor", additional_groups=["crew"])),
        root=oci.Root(path="/", readonly=True), hostname="ship", domainname="sea",
        mounts=[
            oci.Mount(destination="/x", source="/y", options=["rbind"]),
            oci.Mount(destination="/sys", type="sysfs", source="sysfs"),
        ],
        linux=oci.Linux(
            namespaces=[oci.Namespace(type=kind, path="/p" if kind == "uts" else "") for kind in kinds],
            cgroups_path="sampan/id",
            resources=oci.Resources(
                devices=[oci.DeviceCgroup(allow=False)], pids=oci.Pids(limit=5),
                memory=oci.Memory(limit=1 << 30, swap=2 << 30, swappiness=5), cpu=oci.CPU(shares=5, cpus="0"),
            ),
        ),
    )


def test_the_document_says_what_runtimes_insist_on() -> None:
    found = document.config(make_spec(), SAILOR, "rootfs", {"network": "/run/ns-network"})
    assert found["ociVersion"] == "1.0.2" and found["root"] == {"path": "rootfs", "readonly": True}
    process = found["process"]
    assert process["cwd"] == "/" and process["terminal"] is False
    assert process["user"] == {"uid": 1000, "gid": 20, "additionalGids": [20, 30]}  # nothing left to look up
    assert process["env"] == ["A=1", "HOME=/home"]
    assert {"type": "network", "path": "/run/ns-network"} in found["linux"]["namespaces"]
    assert {"type": "uts", "path": "/p"} in found["linux"]["namespaces"]
    assert {"type": "pid"} in found["linux"]["namespaces"]
    assert found["linux"]["cgroupsPath"] == "/sampan/id"
    assert found["linux"]["resources"]["devices"] == [{"type": "a", "access": "rwm", "allow": False}]
    assert found["mounts"][0] == {"type": "bind", "destination": "/x", "source": "/y", "options": ["rbind"]}


@pytest.mark.parametrize(("given", "home"), [
    (["HOME=/x"], ["HOME=/x"]), (["HOME="], ["HOME=/home"]), ([], ["HOME=/home"]),
])
def test_home(given: list[str], home: list[str]) -> None:
    assert document.process(oci.Process(args=["x"], env=given), SAILOR)["env"] == home


@pytest.mark.parametrize(("log", "spoken", "words"), [
    (b'{"level":"error","msg":"one","time":"t"}\n{"level":"error","msg":"two"}\n', b"", "two"),
    (b'{"level":"warning","msg":"one"}\n', b"", ""),
    (b'{"level":"error","msg":"a\\n  b"}\nrubbish\n{"level":5}\n\xff\xfe\n[]\n', b"spoken", "a b"),
    (b"", b"first\nlast \xff\n\n", "last \ufffd"),
    (b"", b"", ""),
])
def test_the_runtimes_words(tmp_path: Path, log: bytes, spoken: bytes, words: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(log)
    fd = os.open(path, os.O_RDONLY)
    try:
        assert failure.words(fd, spoken) == words
    finally:
        os.close(fd)


@pytest.mark.parametrize(("said", "code"), [
    ('exec: "fly": executable file not found in $PATH', 127),
    ("fly: no such file or directory", 127),
    ("open /dev/x: no such file or directory", 125),  # not the program
    ('exec: "fly": permission denied', 126),
    ("mount /a:/b: not a directory", 127),
    ("wrong rlimit value: RLIMIT_BAD", 125),
])
def test_exit_codes_are_dockerds(said: str, code: int) -> None:
    error = failure.of_start(said, "fly", "OCI runtime create failed: ")
    assert error.exit_code == code and str(error).startswith(f"OCI runtime create failed: {said}")


def test_the_spec_in_plain_words() -> None:
    policy = oci.Seccomp(default_action="SCMP_ACT_ALLOW")
    made = Made(make_spec(), policy, [])
    spec = portable.adapt(made, Features(swap_limit=False, cpuset=False, pids_limit=False), False)
    assert spec.linux is not None and spec.linux.resources is not None and spec.linux.seccomp is policy
    assert spec.linux.sysctl == {"kernel.domainname": "sea"} and spec.domainname == ""
    limits = spec.linux.resources  # what the host cannot hold is left out: others would fail for it
    assert limits.memory == oci.Memory(limit=1 << 30) and limits.cpu == oci.CPU(shares=5) and limits.pids is None
    (sysfs,) = [mount for mount in spec.mounts if mount.destination == "/sys"]
    assert sysfs.type == "bind" and "ro" in sysfs.options


def test_init_is_the_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match="--init with this runtime needs one of docker-init"):
        portable.adapt(Made(make_spec(), None, []), Features(), True)
    program = tmp_path / "tini"
    program.write_text("")
    program.chmod(0o755)
    spec = portable.adapt(Made(make_spec(), None, []), Features(), True)
    assert spec.process is not None and spec.process.args == ["/sbin/docker-init", "--", "true"]
    assert spec.mounts[-1].source == str(program)


def test_names(tmp_path: Path) -> None:
    program = tmp_path / "boat"
    program.write_text("")
    program.chmod(0o755)
    runtimes = Runtimes({"mine": str(program), "gone": "/no/such"}, "mine")
    assert runtimes.default == runtimes.name("") == runtimes.name("io.containerd.runc.v2") == "mine"
    assert runtimes.name("sampan") == "sampan" and runtimes.program("sampan") is None
    assert runtimes.program("mine") == runtimes.program(str(program)) == str(program)
    known = runtimes.known()
    assert known["mine"] == str(program) and known["sampan"] == "sampan" and "gone" not in known
    for name in ("gone", "fly", "bin/sh", "/", str(tmp_path), "", "x\0"):
        with pytest.raises(InvalidArgument, match="unknown or invalid runtime name: "):
            runtimes.program(name)
    assert Runtimes({}, "sampan").name("") == "sampan"
