"""Sockets whose path is longer than an address has room for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sampan.linux import unix_socket


def test_a_path_of_any_length(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100) / ("y" * 100)
    deep.mkdir(parents=True)
    directory = os.open(deep, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as one, \
            socket.socket(socket.AF_UNIX) as other:
        unix_socket.bind_at(server, directory, "s")
        server.listen()
        unix_socket.connect(one, f"{deep}/s")
        unix_socket.connect_at(other, directory, "s")
        for client in (one, other):
            with server.accept()[0] as connection:
                connection.sendall(b"hello")
            assert client.recv(5) == b"hello"
    os.close(directory)


def test_errors_are_connects_own_and_name_the_path(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as dead:
        unix_socket.bind_at(dead, directory, "dead")
    with socket.socket(socket.AF_UNIX) as sock:
        with pytest.raises(ConnectionRefusedError) as caught:
            unix_socket.connect(sock, f"{tmp_path}/dead")
        assert caught.value.filename == f"{tmp_path}/dead"
        with pytest.raises(FileNotFoundError) as missing:
            unix_socket.connect_at(sock, directory, "none")
        assert missing.value.filename == "none"
        with pytest.raises(OSError, match="Address already in use: 'dead'"):
            unix_socket.bind_at(sock, directory, "dead")
    os.close(directory)
