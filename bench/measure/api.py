"""The Docker Engine API over a unix socket with as little of a client as possible: what remains is the engine's."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import quote


class ApiError(Exception):
    pass


class Api:
    """One kept-alive connection. Not thread safe: one for each client."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._connect()

    def _connect(self) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(self.path)
        self._buffer = b""

    def ask(self, method: str, target: str, body: object = None) -> Any:
        """The decoded answer, None when it is empty. Raises ApiError for a status of 400 and above."""
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\n"
        if data or method == "POST":
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        self._sock.sendall(head.encode() + b"\r\n" + data)
        status, answer = self._answer()
        if status >= 400:
            raise ApiError(f"{method} {target}: {status} {answer.decode(errors='replace').strip()}")
        return json.loads(answer) if answer.strip() else None

    def run_exec(self, container: str, command: list[str]) -> None:
        """exec create, start with its output read to the end, inspect. Raises ApiError unless it exits with 0."""
        asked = {"AttachStdout": True, "AttachStderr": True, "Cmd": command}
        exec_id = self.ask("POST", f"/containers/{container}/exec", asked)["Id"]
        other = Api(self.path)
        body = b'{"Detach":false,"Tty":false}'
        other._sock.sendall(
            b"POST /exec/%b/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (exec_id.encode(), len(body), body)
        )
        while other._sock.recv(65536):
            pass
        other.close()
        ended = self.ask("GET", f"/exec/{exec_id}/json")
        if ended["ExitCode"] != 0:
            raise ApiError(f"exec ended with {ended['ExitCode']}")

    def import_image(self, tar: str, name: str) -> None:
        """The tar file's bytes as an image, in a connection of its own."""
        with socket.socket(socket.AF_UNIX) as sock, open(tar, "rb") as file:
            sock.connect(self.path)
            file.seek(0, 2)
            head = f"POST /images/create?fromSrc=-&repo={quote(name)}&tag=latest HTTP/1.1\r\nHost: x\r\n"
            sock.sendall(f"{head}Content-Length: {file.tell()}\r\nConnection: close\r\n\r\n".encode())
            sock.sendfile(file, 0)
            answer = b""
            while data := sock.recv(65536):
                answer += data
        if b"200" not in answer.split(b"\r\n", 1)[0] or b'"error"' in answer:
            raise ApiError(answer.decode(errors="replace"))

    def close(self) -> None:
        self._sock.close()

    def _answer(self) -> tuple[int, bytes]:
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        status = int(lines[0].split()[1])
        fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        if status in (204, 304):
            return status, b""
        if fields.get("transfer-encoding") == "chunked":
            return status, self._chunks()
        return status, self._take(int(fields.get("content-length", 0)))

    def _chunks(self) -> bytes:
        whole = b""
        while True:
            while b"\r\n" not in self._buffer:
                self._more()
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            size = int(line, 16)
            whole += self._take(size)
            self._take(2)
            if size == 0:
                return whole

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _more(self) -> None:
        data = self._sock.recv(65536)
        if not data:
            raise ApiError("the engine closed the connection")
        self._buffer += data
