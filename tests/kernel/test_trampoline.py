"""The program between a container's init stage and its first own program (linux/trampoline.py)."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sampan.linux import capability, libc, process, trampoline

pytestmark = pytest.mark.skipif(not trampoline.available(), reason="no executable memfds here")

SHOW = """\
import ctypes, json, os, sys
auxv = ctypes.CDLL(None).getauxval
auxv.restype = ctypes.c_void_p
def is_open(fd):
    try:
        return bool(os.fstat(fd))
    except OSError:
        return False
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
keys = "Name Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp SigBlk SigIgn".split()
print(json.dumps({
    "argv": sys.orig_argv, "env": sorted(set(os.environ) - {"LC_CTYPE"}), "cwd": os.getcwd(),
    "machine": os.uname().machine,
    "fds": [fd for fd in range(64) if is_open(fd)], "umask": status["Umask"].strip(),
    "exe": os.readlink("/proc/self/exe"), "secure": auxv(23), "execfn": ctypes.string_at(auxv(31)).decode(),
    **{key: status[key].strip() for key in keys},
}))
"""
PYTHON = str(Path(sys.executable).resolve())
NR = {
    "x86_64": {"execve": 59, "write": 1, "exit_group": 231},
    "aarch64": {"execve": 221, "write": 64, "exit_group": 94},
}
MACHINE = os.uname().machine


@dataclass
class Ended:
    status: int
    out: str
    failure: tuple[str, int] | None


def run(
    path: str, args: list[str], setup: Callable[[], None] | None = None, direct: bool = False, seccomp: bytes = b"",
    env: dict[str, str] | None = None,
) -> Ended:
    """Fork, `setup`, and become the program: by the trampoline, or `direct`."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writing, 1)
            fd = trampoline.create(theirs.fileno(), seccomp)
            process.close_on_exec_from(3)
            if setup is not None:
                setup()
            if direct:
                os.execve(path, args, env or {})
            trampoline.execute(fd, path, args, env or {})
        except OSError as error:
            os.write(1, f"{errno.errorcode[error.errno or 0]} {error.filename}".encode())
        except BaseException as error:
            os.write(1, repr(error).encode())
        finally:
            os._exit(99)
    os.close(writing)
    theirs.close()
    with ours, os.fdopen(reading) as pipe:
        message = ours.recv(1000)
        assert not message or not ours.recv(1000)
        out = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Ended(status, out, trampoline.reason(json.loads(message)["trampoline"]) if message else None)


def show(setup: Callable[[], None] | None = None, path: str = PYTHON) -> dict[str, object]:
    """What a program sees of itself, the same both ways."""
    args = ["captain", "-IS", "-c", SHOW]
    found = [run(path, args, setup, direct, env={"A": "b=c", "X": ""}) for direct in (True, False)]
    assert [(one.status, one.failure) for one in found] == [(0, None)] * 2, [one.out for one in found]
    assert found[0].out == found[1].out
    seen: dict[str, object] = json.loads(found[1].out)
    return seen


def test_the_program_sees_no_difference() -> None:
    seen = show()
    assert seen["argv"] == ["captain", "-IS", "-c", SHOW]
    assert seen["env"] == ["A", "X"]
    assert seen["exe"] == seen["execfn"] == PYTHON
    assert seen["Name"] == Path(PYTHON).name
    assert seen["fds"] == [0, 1, 2]


def become(uid: int, permitted: int, ambient: int, bounding: int | None = None) -> None:
    bounding = capability.read().bounding if bounding is None else bounding
    capability.drop_bounding(bounding, capability.last_cap())
    capability.keep_over_setuid(True)
    os.setgroups([uid + 1])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    capability.keep_over_setuid(False)
    capability.set_sets(permitted, permitted, ambient)
    capability.set_ambient(ambient)


NET_BIND = 1 << 10
SOME = NET_BIND | 1 << 1 | 1 << 5 | 1 << 7


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("ambient", [0, NET_BIND])
@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("no_new_privs", [False, True])
def test_identity_and_capabilities_are_those_of_a_single_execve(uid: int, ambient: int, no_new_privs: bool) -> None:
    def setup() -> None:
        become(uid, SOME, ambient, SOME)
        os.umask(0o027)
        if no_new_privs:
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)

    seen = show(setup)
    assert seen["Uid"] == "\t".join([str(uid)] * 4)
    assert seen["NoNewPrivs"] == str(int(no_new_privs))
    assert int(str(seen["CapEff"]), 16) == (ambient if uid else SOME)
    assert seen["umask"] == "0027"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_file_capabilities_and_set_user_id_programs(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    able, setuid = tmp_path / "able", tmp_path / "setuid"
    for path in (able, setuid):
        path.write_bytes(Path(PYTHON).read_bytes())
        path.chmod(0o755)
    os.setxattr(able, "security.capability", struct.pack("<5I", 0x02000001, NET_BIND, 0, 0, 0))
    setuid.chmod(0o4755)
    seen = show(lambda: become(1000, 0, 0), str(able))
    assert (int(str(seen["CapEff"]), 16), bool(seen["secure"])) == (NET_BIND, True)
    seen = show(lambda: become(1000, 0, 0), str(setuid))
    assert (seen["Uid"], bool(seen["secure"])) == ("1000\t0\t0\t0", True)


def test_a_personality_stays() -> None:
    def linux32() -> None:
        libc.lib.personality(8)

    assert str(show(linux32)["machine"]).startswith({"x86_64": "i686", "aarch64": "armv8"}[MACHINE])


def test_limits_that_were_set_before() -> None:
    import resource

    def tiny() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))

    show(tiny)


def test_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh -e\necho $0 $1\n")
    script.chmod(0o755)
    assert run(str(script), ["name", "word"]) == Ended(0, f"{script} word\n", None)


def failures(directory: Path) -> list[tuple[str, int]]:
    (directory / "loop").symlink_to("loop")
    for name, text, mode in (
        ("noexec", "#!/bin/sh\n", 0o644), ("text", "hello\n", 0o755), ("no-interpreter", "#!/nowhere/sh\n", 0o755),
        ("empty", "", 0o755),
    ):
        (directory / name).write_text(text)
        (directory / name).chmod(mode)
    return [
        ("nothing", errno.ENOENT), ("noexec", errno.EACCES), ("text", errno.ENOEXEC), ("loop", errno.ELOOP),
        ("no-interpreter", errno.ENOENT), ("empty", errno.ENOEXEC), (".", errno.EACCES), ("text/x", errno.ENOTDIR),
        ("x" * 256, errno.ENAMETOOLONG),
    ]


def test_why_a_program_cannot_be_executed_is_told(tmp_path: Path) -> None:
    for name, number in failures(tmp_path):
        assert run(f"{tmp_path}/{name}", ["x"]) == Ended(127, "", ("execve", number)), name


def test_arguments_that_are_too_long() -> None:
    huge = "x" * (128 << 10)  # MAX_ARG_STRLEN counts the zero behind it
    assert run("/bin/true", ["true", huge]) == Ended(99, "E2BIG /bin/true", None)
    assert run("/bin/true", ["true", huge[:-1]]).status == 0


def bpf(*allowed: str) -> bytes:
    """Allow these system calls, kill the process for any other."""
    numbers = [NR[MACHINE][name] for name in allowed]
    lines = [(0x20, 0, 0, 0)]
    lines += [(0x15, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    lines += [(0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7FFF0000)]
    return b"".join(struct.pack("<HBBI", *line) for line in lines)


def no_new_privs() -> None:
    process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)


def quitter(directory: Path) -> str:
    """A program whose only system call is exit_group(42)."""
    whole = bytearray(trampoline.image(MACHINE, 1))
    code = {
        "x86_64": b"\xbf\x2a\0\0\0\xb8\xe7\0\0\0\x0f\x05",
        "aarch64": struct.pack("<3I", 0xD2800540, 0xD2800BC8, 0xD4000001),
    }[MACHINE]
    entry = struct.unpack_from("<Q", whole, 24)[0] & 0xFFFF
    whole[entry : entry + len(code)] = code
    path = directory / "quitter"
    path.write_bytes(whole)
    path.chmod(0o755)
    return str(path)


def test_a_filter_needs_to_allow_execve_and_no_more(tmp_path: Path) -> None:
    program = quitter(tmp_path)
    assert run(program, [program], no_new_privs, seccomp=bpf("execve", "exit_group")) == Ended(42, "", None)
    assert run(program, [program], no_new_privs, seccomp=bpf("execve")).status == -signal.SIGSYS
    three = bpf("execve", "write", "exit_group")
    assert run("/nothing", ["x"], no_new_privs, seccomp=three) == Ended(127, "", ("execve", errno.ENOENT))


def test_a_filter_the_kernel_refuses(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        assert run(quitter(tmp_path), ["x"], seccomp=b"\xff" * 16) == Ended(127, "", ("seccomp", errno.EINVAL))
    bare = run("/bin/true", ["x"], lambda: become(1000, 0, 0), seccomp=bpf("execve"))
    assert bare == Ended(127, "", ("seccomp", errno.EACCES))  # neither no_new_privs nor CAP_SYS_ADMIN


def test_nobody_can_write_to_it() -> None:
    fd = trampoline.create(2)
    try:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        reopened = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)  # a way in by name: the seals are the file's
        try:
            with pytest.raises(PermissionError):
                os.write(reopened, b"x")
        finally:
            os.close(reopened)
    finally:
        os.close(fd)


def test_cve_2019_5736_a_script_that_asks_for_proc_self_exe(tmp_path: Path) -> None:
    """Directly, the interpreter runs what the image says; behind the trampoline it finds that one, which ends."""
    script = tmp_path / "entry"
    script.write_text("#!/proc/self/exe\nprint('in your interpreter', file=__import__('sys').stdout)\n")
    script.chmod(0o755)
    assert "in your interpreter" in run(str(script), ["entry"], direct=True).out
    assert run(str(script), ["entry"]) == Ended(127, "", None)
    assert run("/proc/self/exe", ["python", "-c", "print('in your interpreter')"]) == Ended(127, "", None)


def test_the_other_architecture_is_well_formed(tmp_path: Path) -> None:
    for machine, wanted in (("x86_64", "X86-64"), ("aarch64", "AArch64")):
        file = tmp_path / machine
        file.write_bytes(trampoline.image(machine, 5, b"\0" * 8 * 4096, 7))
        said = subprocess.run(["readelf", "-hlW", file], check=True, capture_output=True, text=True)
        assert wanted in said.stdout and not said.stderr
