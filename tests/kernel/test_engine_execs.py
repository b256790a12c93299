"""docker exec over the API: exit codes, states, streams, what can go wrong."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_fixture import PATIENCE, Engine, engine


@pytest.fixture(scope="module")
def boat() -> Iterator[Engine]:
    with engine() as made:
        made.run("sleep", "1000", name="web", Env=["COLOUR=blue"], WorkingDir="/tmp")
        yield made


def make(boat: Engine, *command: str, **config: object) -> str:
    body = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True, **config}
    return str(boat.ask("POST", "/containers/web/exec", body)["Id"])


def start(boat: Engine, id: str, **body: object) -> socket.socket:
    """The hijacked connection."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(PATIENCE)
    client.connect(boat.socket)
    data = json.dumps({"Detach": False, **body}).encode()
    head = f"POST /v1.47/exec/{id}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    more = b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: %d\r\n\r\n" % len(data)
    client.sendall(head.encode() + more + data)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += client.recv(1)
    assert b" 101 " in answer.splitlines()[0], answer
    return client


def read_all(client: socket.socket) -> bytes:
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data


def run(boat: Engine, id: str, **body: object) -> bytes:
    with start(boat, id, **body) as client:
        return read_all(client)


def test_exit_code_and_state(boat: Engine) -> None:
    id = make(boat, "sh", "-c", "echo out; echo err >&2; exit 9")
    known = boat.ask("GET", f"/exec/{id}/json")
    assert known["Running"] is False and known["ExitCode"] is None and known["Pid"] == 0
    assert known["ProcessConfig"] == {
        "tty": False, "entrypoint": "sh", "arguments": ["-c", "echo out; echo err >&2; exit 9"], "privileged": False,
        "user": "",
    }
    out = run(boat, id)
    assert b"\x01\0\0\0\0\0\0\x04out\n" in out and b"\x02\0\0\0\0\0\0\x04err\n" in out
    known = boat.ask("GET", f"/exec/{id}/json")  # the code is there before the stream ends
    assert (known["Running"], known["ExitCode"], known["CanRemove"]) == (False, 9, True)
    assert known["ContainerID"] == boat.inspect("web")["Id"]


def test_terminal_environment_user_and_directory(boat: Engine) -> None:
    out = boat.docker("exec", "web", "sh", "-c", "echo $COLOUR $(pwd) $(id -u)").stdout
    assert out == "blue /tmp 0\n"
    script = "echo $COLOUR $(pwd) $(id -u)"
    out = boat.docker("exec", "-u", "sailor", "-w", "/", "-e", "COLOUR=red", "web", "sh", "-c", script).stdout
    assert out == "red / 1000\n"
    id = make(boat, "sh", "-c", "tty; stty size", Tty=True)
    out = run(boat, id, Tty=True, ConsoleSize=[33, 77])
    assert b"/dev/pts/" in out and b"33 77" in out


def test_stdin_is_half_closed(boat: Engine) -> None:
    assert boat.docker("exec", "-i", "web", "sh", "-c", "cat; echo end", input="from outside\n").stdout == (
        "from outside\nend\n"
    )


def test_running_exec_is_seen(boat: Engine) -> None:
    id = make(boat, "cat", AttachStdin=True)
    with start(boat, id) as client:
        client.sendall(b"x")
        assert client.recv(9) == b"\x01\0\0\0\0\0\0\x01x"
        known = boat.ask("GET", f"/exec/{id}/json")
        assert known["Running"] and known["Pid"] > 0
        assert boat.inspect("web")["ExecIDs"] == [id]
        assert boat.request("POST", f"/exec/{id}/start", {"Detach": True})[0] == 409
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
    assert boat.inspect("web")["ExecIDs"] is None


@pytest.mark.parametrize(("command", "code", "words"), [
    ("nosuch", 127, "executable file not found in $PATH"),
    ("/etc/passwd", 126, "permission denied"),
])
def test_program_that_cannot_be_started(boat: Engine, command: str, code: int, words: str) -> None:
    done = boat.docker("exec", "web", command, check=False)
    assert done.returncode == code and words in done.stdout + done.stderr
    id = make(boat, command)
    status, answer = boat.request("POST", f"/exec/{id}/start", {"Detach": True})
    assert status == 400 and words in answer["message"]
    known = boat.ask("GET", f"/exec/{id}/json")
    assert (known["Running"], known["ExitCode"]) == (False, code)


def test_detached(boat: Engine) -> None:
    id = make(boat, "sh", "-c", "echo > /tmp/done-$$; exec sleep 0")
    assert boat.request("POST", f"/exec/{id}/start", {"Detach": True})[0] == 200
    while boat.ask("GET", f"/exec/{id}/json")["Running"]:
        pass
    assert boat.ask("GET", f"/exec/{id}/json")["ExitCode"] == 0


def test_end_of_the_container_ends_its_execs(boat: Engine) -> None:
    other = boat.run("sleep", "1000", name="brief")
    id = str(boat.ask("POST", "/containers/brief/exec", {
        "Cmd": ["sh", "-c", "echo; exec sleep 1000"], "AttachStdout": True,
    })["Id"])
    with start(boat, id) as client:
        assert len(client.recv(9)) == 9
        boat.ask("POST", f"/containers/{other}/kill")
        assert read_all(client) == b""
    known = boat.ask("GET", f"/exec/{id}/json")
    assert (known["Running"], known["ExitCode"]) == (False, 137)
    boat.ask("DELETE", "/containers/brief")
    assert boat.request("GET", f"/exec/{id}/json") == (404, {"message": f"No such exec instance: {id}"})


def test_bad_wishes(boat: Engine) -> None:
    assert boat.request("POST", "/containers/web/exec", {"Cmd": []}) == (400, {"message": "No exec command specified"})
    assert boat.request("POST", "/containers/web/exec", {"Cmd": [7]})[0] == 400
    assert boat.request("POST", "/exec/nosuch/start", {})[0] == 404
    id = make(boat, "true", User="nobody-here")
    status, answer = boat.request("POST", f"/exec/{id}/start", {"Detach": True})
    assert status >= 400 and "nobody-here" in answer["message"]


def test_many_leave_nothing(boat: Engine) -> None:
    descriptors = Path(f"/proc/{boat.pid}/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(80):
        id = make(boat, "true")
        run(boat, id)
    assert len(list(descriptors.iterdir())) <= before + 2
    assert boat.ask("GET", f"/exec/{id}/json")["ExitCode"] == 0
