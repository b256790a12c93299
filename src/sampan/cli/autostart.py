"""Starting the engine on first use: `sampan serve` in the background, once, however many commands want it.

  command                                  engine
    lock EXEC_ROOT/engine.lock
    connect again: another command may have started it meanwhile
    spawn `sampan serve` ────────────────▶ own session, output to EXEC_ROOT/engine.log
    read the pipe  ◀────────── "ready\\n"   once it listens (SAMPAN_READY_FD); the end of the pipe: it could not start
    connect, unlock
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys

from sampan.cli.address import Address, open_socket
from sampan.cli.failure import Unreachable

EXEC_ROOT = "/run/sampan"
LOG = f"{EXEC_ROOT}/engine.log"
LOCK = f"{EXEC_ROOT}/engine.lock"
LOG_LIMIT = 16 << 20
TAIL = 4096
# The engine is a service: it takes over what describes the host, and nothing else of who happened to start it.
KEPT_VARIABLES = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "HTTP_PROXY", "HTTPS_PROXY",
    "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)


def start_engine(address: Address) -> socket.socket:
    """A connection to an engine that listens at the default address. Raises Unreachable with the reason."""
    try:
        os.makedirs(EXEC_ROOT, mode=0o711, exist_ok=True)
        lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Unreachable(f"no engine runs and none can be started: {error.filename}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return open_socket(address)
        except (FileNotFoundError, ConnectionRefusedError):
            _spawn_and_wait()
        return open_socket(address)
    finally:
        os.close(lock)


def _spawn_and_wait() -> None:
    ready, tell = os.pipe2(os.O_CLOEXEC)
    try:
        _spawn(tell)
    finally:
        os.close(tell)
    try:
        said = os.read(ready, 16)
    finally:
        os.close(ready)
    if not said:
        raise Unreachable(f"the engine could not start: {_last_line()} (all of it is in {LOG})")


def _spawn(tell: int) -> None:
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    try:
        if os.fstat(log).st_size > LOG_LIMIT:
            os.ftruncate(log, 0)
        # -P: python must not look for modules in the directory the command happens to be used in.
        os.posix_spawn(
            sys.executable, [sys.executable, "-P", "-m", "sampan.cli", "serve"],
            {**environment, "SAMPAN_READY_FD": "3"},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, tell, 3),
            ],
            setsid=True, setsigdef=[signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
        )
    finally:
        os.close(log)
        os.close(null)


def _last_line() -> str:
    """What the engine said last: its reason."""
    with open(LOG, "rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - TAIL, 0))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("sampan: ") if lines else "it said nothing"
