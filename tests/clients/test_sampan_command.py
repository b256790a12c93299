"""The `sampan` command against a real engine: programs, exit codes, streams, terminals, errors."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine_fixture

SAMPAN = [sys.executable, "-m", "sampan.cli"]
PATIENCE = 30.0


@pytest.fixture(scope="module")
def boat() -> Iterator[engine_fixture.Engine]:
    with engine_fixture.engine() as running:
        yield running


class Sampan:
    """Runs the command against one engine."""

    def __init__(self, boat: engine_fixture.Engine) -> None:
        self.environment = {**os.environ, "SAMPAN_HOST": f"unix://{boat.socket}"}

    def __call__(self, *words: str, code: int = 0, input: bytes | None = None) -> str:
        """stdout of a command that must end with `code`."""
        done = self.run(*words, input=input)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}"
        return done.stdout.decode()

    def error(self, *words: str, code: int) -> str:
        """stderr of a command that must end with `code`."""
        done = self.run(*words)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}"
        assert b"internal error" not in done.stderr
        return done.stderr.decode()

    def run(self, *words: str, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        how = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(
            [*SAMPAN, *words], env=self.environment, capture_output=True, timeout=PATIENCE, check=False, **how  # type: ignore[call-overload]
        )


@pytest.fixture(scope="module")
def sampan(boat: engine_fixture.Engine) -> Sampan:
    return Sampan(boat)


@pytest.fixture
def name(sampan: Sampan, request: pytest.FixtureRequest) -> Iterator[str]:
    """A container's name; the container goes with the test."""
    chosen = "t-" + "".join(c if c.isalnum() else "-" for c in request.node.name)[:50]
    yield chosen
    sampan.run("rm", "-f", chosen)


def test_streams_and_exit_codes(sampan: Sampan) -> None:
    done = sampan.run("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 3)
    assert sampan("run", "--rm", "-i", "busybox", "cat", input=b"x" * 300_000) == "x" * 300_000
    assert sampan("run", "--rm", "-i", "busybox", "wc", "-c", input=b"").strip() == "0"
    assert sampan("run", "--rm", "-e", "A=b c", "-w", "/tmp", "busybox", "sh", "-c", "echo $A; pwd") == "b c\n/tmp\n"


@pytest.mark.parametrize(("words", "code", "message"), [
    (["run", "--rm", "busybox", "nosuch"], 127, "executable file not found"),
    (["run", "--rm", "busybox", "/etc"], 126, ""),
    (["run", "--rm", "nosuchimage"], 125, "nosuchimage"),
    (["run", "--rm", "-m", "1k", "busybox", "true"], 125, "Minimum memory limit allowed is 6MB"),
    (["run", "-it", "--rm", "busybox"], 1, "the input device is not a TTY"),
    (["exec", "nosuch", "ls"], 1, "No such container: nosuch"),
    (["stop", "nosuch"], 1, "No such container: nosuch"),
    (["inspect", "nosuch"], 1, "No such object: nosuch"),
    (["rmi", "nosuch"], 1, "No such image: nosuch"),
    (["logs", "nosuch"], 1, "No such container: nosuch"),
    (["cp", "nosuch:/x", "-"], 1, "No such container: nosuch"),
    (["ps", "--format", "{{.Nope}}"], 0, ""),
    (["images", "--format", "{{.Nope}}"], 1, "can't evaluate field Nope"),
    (["inspect", "-f", "{{.Nope}}", "busybox"], 1, 'no entry for key "Nope"'),
    (["rm", "-f", "nosuch"], 0, "No such container: nosuch"),
])
def test_failures(sampan: Sampan, words: list[str], code: int, message: str) -> None:
    said = sampan.error(*words, code=code)
    assert message in said
    assert len(said.strip().splitlines()) <= 2


def test_the_life_of_a_container(sampan: Sampan, name: str) -> None:
    id = sampan("run", "-d", "--name", name, "-l", "a=b", "busybox", "sleep", "1000").strip()
    assert len(id) == 64
    assert sampan("ps", "-q", "--no-trunc").split() == [id]
    assert sampan("ps", "--format", '{{.Names}} {{.Image}} {{.Label "a"}} {{.State}}') == f"{name} busybox b running\n"
    assert '"sleep 1000"   ' in sampan("ps")
    assert sampan("exec", name, "sh", "-c", "echo $PATH; exit 4", code=4).startswith("/usr/local/sbin")
    assert sampan("exec", "-i", name, "cat", input=b"hello") == "hello"
    assert sampan("inspect", "-f", "{{.State.Running}} {{json .Config.Cmd}}", name) == 'true ["sleep","1000"]\n'
    assert sampan("top", name).splitlines()[1].endswith("sleep 1000")
    assert sampan("pause", name) == f"{name}\n"
    assert "(Paused)" in sampan("ps", "--format", "{{.Status}}")
    sampan("unpause", name)
    assert name in sampan("stats", "--no-stream", name)
    assert sampan("update", "--memory", "64m", "--memory-swap", "64m", name) == f"{name}\n"
    assert sampan("inspect", "-f", "{{.HostConfig.Memory}}", name) == f"{64 << 20}\n"
    sampan("exec", name, "touch", "/new")
    assert "A /new" in sampan("diff", name)
    sampan("rename", name, f"{name}x")
    sampan("rename", f"{name}x", name)
    assert sampan("kill", name) == f"{name}\n"
    assert sampan("wait", name) == "137\n"
    assert "Exited (137)" in sampan("ps", "-a", "--format", "{{.Status}}")
    assert sampan("start", name) == f"{name}\n"
    assert sampan("restart", "-t", "0", name) == f"{name}\n"
    assert sampan("stop", "-t", "0", name) == f"{name}\n"
    assert sampan("rm", name) == f"{name}\n"
    assert sampan("ps", "-aq") == ""


def test_logs(sampan: Sampan, name: str) -> None:
    script = "for i in 1 2 3; do echo o$i; echo e$i >&2; done; sleep .2; echo end"
    sampan("run", "-d", "--name", name, "busybox", "sh", "-c", script)
    done = sampan.run("logs", "-f", name)
    assert done.stdout == b"o1\no2\no3\nend\n" and done.stderr == b"e1\ne2\ne3\n"
    assert sampan("logs", "-n", "1", name) == "end\n"
    assert sampan("logs", "-t", "--tail", "1", name)[10] == "T"
    assert sampan("logs", "--since", "1h", "--until", "30m", name) == ""


def test_attached_start(sampan: Sampan, name: str) -> None:
    sampan("create", "--name", name, "-i", "busybox", "sh", "-c", "read x; echo got $x; exit 6")
    assert sampan("start", "-ai", name, input=b"it\n", code=6) == "got it\n"
    assert "start it first" in sampan.error("attach", name, code=1)


def test_signals_are_passed_on(boat: engine_fixture.Engine, sampan: Sampan, name: str) -> None:
    script = 'trap "echo got; exit 9" TERM; echo ready; while :; do sleep 0.05; done'
    process = subprocess.Popen(
        [*SAMPAN, "run", "--name", name, "busybox", "sh", "-c", script], env=sampan.environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=PATIENCE)[0] == b"got\n"
    assert process.returncode == 9


def test_cidfile(sampan: Sampan, name: str, tmp_path: Path) -> None:
    path = tmp_path / "cid"
    id = sampan("create", "--name", name, "--cidfile", str(path), "busybox", "true").strip()
    assert path.read_text() == id
    assert "container ID file found" in sampan.error("run", "--cidfile", str(path), "busybox", code=125)
    path.unlink()
    sampan.error("create", "--name", name, "--cidfile", str(path), "busybox", "true", code=1)
    assert not path.exists()


def test_images(sampan: Sampan, tmp_path: Path) -> None:
    sampan("tag", "busybox", "box:v1")
    assert "box          v1" in sampan("images")
    assert sampan("images", "-q", "box").strip() == sampan("images", "-q", "busybox").strip()
    assert "IMAGE" in sampan("history", "box:v1")
    sampan("save", "-o", str(tmp_path / "i.tar"), "box:v1")
    assert "Untagged: box:v1" in sampan("rmi", "box:v1")
    assert sampan("load", "-i", str(tmp_path / "i.tar")).startswith("Loaded image: box:v1")
    sampan("rmi", "box:v1")
    assert "cowardly" not in sampan.error("save", "nosuch", code=1)


def test_build(sampan: Sampan, tmp_path: Path) -> None:
    run = "RUN echo V=$V; ls /x; exit $(cat /x/b)"
    (tmp_path / "Dockerfile").write_text(f"FROM busybox\nARG V=1\nCOPY a b /x/\n{run}\n")
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("0")
    (tmp_path / "secret").write_text("s")
    (tmp_path / ".dockerignore").write_text("secret\n")
    out = sampan("build", "-t", "built:v1", "--build-arg", "V=7", str(tmp_path))
    assert "V=7\na\nb\n" in out and "Successfully tagged built:v1" in out
    assert sampan("build", "-q", str(tmp_path), "--build-arg", "V=7").startswith("sha256:")
    assert "Using cache" in sampan("build", "--build-arg", "V=7", str(tmp_path))
    (tmp_path / "b").write_text("5")
    assert "non-zero code: 5" in sampan.error("build", str(tmp_path), code=5)
    assert "unknown instruction" in sampan.run("build", "-", input=b"FROM busybox\nNOPE\n").stderr.decode().lower()
    sampan("rmi", "-f", "built:v1")
    sampan("image", "prune", "-f")


def test_cp(sampan: Sampan, name: str, tmp_path: Path) -> None:
    (tmp_path / "src" / "sub").mkdir(parents=True)
    (tmp_path / "src" / "sub" / "f").write_text("hello")
    sampan("create", "--name", name, "busybox", "true")
    sampan("cp", str(tmp_path / "src"), f"{name}:/tmp/new")
    sampan("cp", f"{name}:/tmp/new/sub", str(tmp_path / "out"))
    assert (tmp_path / "out" / "f").read_text() == "hello"
    sampan("cp", f"{name}:/tmp/new/sub/f", str(tmp_path / "g"))
    assert (tmp_path / "g").read_text() == "hello"
    tar = sampan.run("cp", f"{name}:/tmp/new", "-").stdout
    sampan("cp", "-", f"{name}:/root", input=tar)
    sampan("cp", f"{name}:/root/new/sub/.", str(tmp_path / "h"))
    assert (tmp_path / "h" / "f").read_text() == "hello"


def test_volumes_networks_and_the_rest(sampan: Sampan) -> None:
    assert sampan("volume", "create", "--label", "a=b", "vol") == "vol\n"
    assert sampan("volume", "ls", "-q") == "vol\n"
    assert json.loads(sampan("volume", "inspect", "vol"))[0]["Labels"] == {"a": "b"}
    assert sampan("volume", "rm", "vol") == "vol\n"
    assert {"bridge", "host", "none"} <= set(sampan("network", "ls", "--format", "{{.Name}}").split())
    assert sampan("network", "inspect", "-f", "{{.Driver}}", "bridge") == "bridge\n"
    assert "Server Version" in sampan("info")
    assert json.loads(sampan("version", "-f", "json"))["Server"]["ApiVersion"] == "1.50"
    assert "Images" in sampan("system", "df") and "space usage" in sampan("system", "df", "-v")
    assert "image import" in sampan("events", "--since", "1h", "--until", "0s")
    assert "Total reclaimed space" in sampan("system", "prune", "-f")
    assert "nothing was removed" in sampan.error("container", "prune", code=1)


# -- terminals


class Terminal:
    """A command on a pseudo-terminal of its own."""

    def __init__(self, sampan: Sampan, *words: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(SAMPAN[0], [*SAMPAN, *words], sampan.environment)
        self.resize(33, 99)
        self.text = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def until(self, mark: bytes) -> None:
        """Reads up to what must come."""
        while mark not in self.text:
            assert select.select([self.fd], [], [], PATIENCE)[0], f"{mark!r} did not come: {self.text!r}"
            self.text += self._read() or pytest.fail(f"ended before {mark!r}: {self.text!r}")
        self.text = self.text.partition(mark)[2]

    def _read(self) -> bytes:
        try:
            return os.read(self.fd, 65536)
        except OSError:
            return b""

    def end(self) -> int:
        """The exit code, after the rest was read; the terminal's modes were put back."""
        while select.select([self.fd], [], [], PATIENCE)[0] and (data := self._read()):
            self.text += data
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return status


def is_raw(fd: int) -> bool:
    return not termios.tcgetattr(fd)[3] & termios.ICANON


def test_a_shell(sampan: Sampan) -> None:
    terminal = Terminal(sampan, "run", "--rm", "-it", "busybox", "sh")
    terminal.until(b"# ")
    assert is_raw(terminal.fd)
    terminal.type(b"stty size\n")
    terminal.until(b"33 99")
    terminal.until(b"# ")
    terminal.resize(40, 120)
    terminal.type(b"until [ \"$(stty size)\" = '40 120' ]; do sleep .05; done; echo resized\n")
    terminal.until(b"\nresized")
    terminal.until(b"# ")
    terminal.type(b"echo begin; cat\n")
    terminal.until(b"\nbegin")
    terminal.type(b"round trip\n")
    terminal.until(b"round trip\r\nround trip")
    terminal.type(b"\x03")
    terminal.until(b"# ")
    terminal.type(b"exit 7\n")
    assert terminal.end() == 7


def test_detach_and_attach(sampan: Sampan, name: str) -> None:
    terminal = Terminal(sampan, "run", "--name", name, "-it", "busybox", "sh")
    terminal.until(b"# ")
    terminal.type(b"\x10\x11")
    assert terminal.end() == 0
    assert sampan("inspect", "-f", "{{.State.Running}}", name) == "true\n"
    terminal = Terminal(sampan, "attach", "--detach-keys", "ctrl-x", name)
    terminal.until(b"# ")
    terminal.type(b"\x18")
    assert terminal.end() == 1
    assert b"read escape sequence" in terminal.text
    terminal = Terminal(sampan, "attach", name)
    terminal.until(b"# ")
    terminal.type(b"exit 3\n")
    assert terminal.end() == 3


def test_exec_with_a_terminal(sampan: Sampan, name: str) -> None:
    sampan("run", "-d", "--name", name, "busybox", "sleep", "1000")
    terminal = Terminal(sampan, "exec", "-it", name, "sh")
    terminal.until(b"# ")
    terminal.type(b"tty; stty size; exit 5\n")
    assert terminal.end() == 5
    assert b"/dev/pts/" in terminal.text and b"33 99" in terminal.text


def test_the_terminal_is_put_back_when_the_engine_dies(name: str) -> None:
    with engine_fixture.engine() as doomed:
        sampan = Sampan(doomed)
        master, slave = pty.openpty()
        before = termios.tcgetattr(slave)
        process = subprocess.Popen(
            [*SAMPAN, "exec", "-it", sampan("run", "-d", "busybox", "sleep", "1000").strip(), "sh"],
            env=sampan.environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        )
        seen = b""
        while b"# " not in seen:
            assert select.select([master], [], [], PATIENCE)[0], seen
            seen += os.read(master, 4096)
        assert is_raw(slave)
        process.send_signal(signal.SIGHUP)
        process.wait(PATIENCE)
        assert termios.tcgetattr(slave)[:4] == before[:4]
        os.close(master)
        os.close(slave)


def test_build_on_a_terminal(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo visible-while-it-runs\nRUN exit 3\n")
    terminal = Terminal(sampan, "build", str(tmp_path))
    assert terminal.end() == 3
    text = terminal.text.decode()
    assert "✓" in text and "[2/3]" in text and "RUN echo visible" in text and "✗" in text
