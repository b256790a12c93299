"""sampan serve: the engine, in the foreground."""

from __future__ import annotations

import os
import sys

from sampan.cli.command import Command, Invocation
from sampan.cli.failure import CommandFailed, UsageError
from sampan.cli.flags import LIST, STRING, Option, checked_list

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from sampan.api.listen import Listener
    from sampan.engine.options import Options

LEVELS = ("debug", "info", "warn", "error", "fatal")


def _runtime(text: str) -> str:
    """name=path; the engine says what is wrong with either."""
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise ValueError(f'"{text}" is not of the form name=path')
    return text


OPTIONS = (
    Option("-H", "--host", kind=LIST, help="Sockets to listen on", shown_default="unix:///run/sampan/sampan.sock"),
    Option("--data-root", kind=STRING, default="/var/lib/sampan", help="Root directory of persistent state",
           shown_default='"/var/lib/sampan"'),
    Option("--exec-root", kind=STRING, default="/run/sampan", help="Root directory for execution state files",
           shown_default='"/run/sampan"'),
    Option("-b", "--bridge", kind=STRING, default="sampan0", help="Bridge that containers are attached to",
           shown_default='"sampan0"'),
    Option("--bip", kind=STRING, default="172.30.0.1/16", help="Address of the bridge and its network",
           shown_default='"172.30.0.1/16"'),
    Option("--cgroup-parent", kind=STRING, default="/sampan", help="Parent cgroup for all containers",
           shown_default='"/sampan"'),
    Option("-p", "--pidfile", kind=STRING, help="Path to use for the engine's PID file"),
    Option("-l", "--log-level", kind=STRING, default="info",
           help='Set the logging level ("debug", "info", "warn", "error", "fatal")', shown_default='"info"'),
    Option("--add-runtime", kind=checked_list("runtime", _runtime),
           help="Register an additional OCI compatible runtime, name=path"),
    Option("--default-runtime", kind=STRING, default="sampan", help="Default OCI runtime for containers",
           shown_default='"sampan"'),
    Option("-D", "--debug", help="Enable debug mode"),
)


def options_of(invocation: Invocation) -> Options:
    """What the engine is told. Raises UsageError."""
    from pathlib import Path

    from sampan.engine.options import Options

    values = invocation.values
    level = "debug" if values.on("debug") else values.text("log-level")
    if level not in LEVELS:
        raise UsageError(f'invalid log level: "{level}": must be one of {", ".join(LEVELS)}')
    exec_root = Path(values.text("exec-root"))
    given = values.texts("host") or ([invocation.host] if invocation.host else [])
    hosts = given or [f"unix://{exec_root.absolute()}/sampan.sock"]
    for host in hosts:
        if host != "fd://" and not host.startswith("unix:///"):
            raise UsageError(
                f'invalid address "{host}": the engine listens on unix sockets only, as in unix:///run/x.sock (whoever '
                "can talk to it is root; use ssh to reach it from elsewhere)"
            )
    pidfile = values.text("pidfile")
    return Options(
        data_root=Path(values.text("data-root")).absolute(), exec_root=exec_root.absolute(), hosts=hosts,
        bridge=values.text("bridge"), bip=values.text("bip"), cgroup_parent=values.text("cgroup-parent"),
        pidfile=Path(pidfile).absolute() if pidfile else None, log_level=level,
        runtimes=dict(text.split("=", 1) for text in values.texts("add-runtime")),
        default_runtime=values.text("default-runtime"),
    )


def _listeners(options: Options) -> list[Listener]:
    """systemd's sockets, else our own. Raises SampanError, OSError."""
    from sampan.api import listen

    inherited = listen.inherited()
    if inherited:
        return inherited
    if "fd://" in options.hosts:
        raise CommandFailed("-H fd:// was given, but no sockets were passed (socket activation sets LISTEN_FDS)")
    made: list[Listener] = []
    try:
        for host in options.hosts:
            made.append(listen.unix_socket(host.removeprefix("unix://")))
    except BaseException:
        for listener in made:
            listener.close()
        raise
    return made


def _announce() -> None:
    """Tells whoever started us that we listen: the command that waits (autostart), systemd (sd_notify(3))."""
    ready = os.environ.pop("SAMPAN_READY_FD", "")
    if ready.isdigit():
        os.write(int(ready), b"ready\n")
        os.close(int(ready))
    address = os.environ.pop("NOTIFY_SOCKET", "")
    if address:
        import socket

        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.connect("\0" + address[1:] if address.startswith("@") else address)
            notify.send(b"READY=1")


async def _serve(options: Options) -> None:
    import asyncio
    import signal

    from sampan.api.router import Router
    from sampan.api.routes import ROUTES
    from sampan.api.server import Server
    from sampan.engine.engine import Engine

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    engine = Engine(options)
    await engine.start()
    try:
        server = Server(engine, Router(ROUTES))
        server.start(_listeners(options))
        _announce()
        await stop.wait()
        await server.close()
    finally:
        await engine.close()


def _set_up_log(level: str) -> None:
    import logging

    name = {"warn": "WARNING", "fatal": "CRITICAL"}.get(level, level.upper())
    form = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(stream=sys.stderr, level=name, format=form, datefmt="%Y-%m-%dT%H:%M:%S")


def _write_pidfile(path: str) -> int:
    """Write it, and hold a lock on it as long as we live: a number says little, it is soon another process's, or a
    zombie's. Returns the descriptor that holds the lock.
    """
    import fcntl

    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            old = os.read(fd, 32).decode("ascii", "replace").strip()
            os.close(fd)
            raise CommandFailed(f"{path} names process {old}, which runs: stop it, or use another file") from None
        if _is_at(fd, path):
            os.truncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
            return fd
        os.close(fd)  # removed by the one who held it until now


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def run(invocation: Invocation) -> int:
    import asyncio

    options = options_of(invocation)
    _set_up_log(options.log_level)
    ready = os.environ.get("SAMPAN_READY_FD", "")
    if ready.isdigit():
        os.set_inheritable(int(ready), False)
    os.chdir("/")
    if options.pidfile is not None:
        _write_pidfile(str(options.pidfile))
    try:
        asyncio.run(_serve(options))
    finally:
        if options.pidfile is not None:
            options.pidfile.unlink(missing_ok=True)
    return 0


COMMAND = Command("", "Run the engine in the foreground", run, OPTIONS, most=0)
