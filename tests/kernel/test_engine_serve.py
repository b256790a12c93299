"""engine/serve.py: the order of a start, the signals, the pidfile; with a front that knows no HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from engine_fixture import PATIENCE

FRONT = """
import socket, sys
from pathlib import Path
from sampan.engine import serve
from sampan.engine.options import Options
from sampan.errors import SampanError

class Front:
    def __init__(self, hosts):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(hosts[0].removeprefix("unix://"))
        self.sock.listen()
        print("listening", flush=True)

    def start(self, engine):
        print("answering", len(engine.images.list()), flush=True)

    async def close(self):
        self.sock.close()
        print("closed", flush=True)

root = Path(sys.argv[1])
try:
    serve.run(Options(
        data_root=root / "data", exec_root=root / "run", hosts=[f"unix://{root}/s"], bridge=sys.argv[2],
        bip="10.199.7.1/24", cgroup_parent=sys.argv[2], pidfile=root / "pid", log_level=sys.argv[3],
    ), Front)
except SampanError as error:
    sys.exit(f"sampan: {error}")
"""


def serve(root: Path, level: str = "info") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FRONT, str(root), f"sv{os.getpid() % 10000}", level]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_from_start_to_end(tmp_path: Path, number: int) -> None:
    with serve(tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"  # clients may come now, and wait
        with socket.socket(socket.AF_UNIX) as early:
            early.connect(str(tmp_path / "s"))
            assert process.stdout.readline() == "answering 0\n"
            assert (tmp_path / "pid").read_text() == f"{process.pid}\n"
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and out == "closed\n", err
    assert "ending; containers run on" in err and not (tmp_path / "pid").exists()


def test_second_engine_on_the_same_root_is_refused(tmp_path: Path) -> None:
    with serve(tmp_path) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "listening\n"
        second = serve(tmp_path)
        _, err = second.communicate(timeout=PATIENCE)
        assert second.returncode == 1 and "another engine uses" in err
        assert first.stdout.readline() == "answering 0\n"
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=PATIENCE)


def test_unknown_log_level(tmp_path: Path) -> None:
    with serve(tmp_path, "loud") as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and "unknown log level 'loud'" in err
