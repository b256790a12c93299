"""The engine in the foreground: `sampan serve`.

Order: take the data root, listen (clients may connect from now on, and wait), recover, answer. On SIGTERM or SIGINT:
answer what was asked, let go; containers run on. A second signal does not wait for anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from sampan.engine.engine import Engine
from sampan.engine.options import Options
from sampan.errors import InvalidArgument

log = logging.getLogger("sampan")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "warning": logging.WARNING,
           "error": logging.ERROR, "fatal": logging.CRITICAL}


class Front(Protocol):
    """How the engine is talked to: the API's server (api/), which this room does not know."""

    def start(self, engine: Engine) -> None:
        """Begin to answer."""

    async def close(self) -> None:
        """Answer what was asked, then stop."""


Listen = Callable[[Sequence[str]], Front]
"""Listen on hosts ("unix:///run/sampan/sampan.sock"), from now on; raises Conflict, InvalidArgument."""


def run(options: Options, listen: Listen) -> None:
    """Serve until a signal ends it. Raises SampanError when it cannot begin."""
    _set_up_log(options.log_level)
    asyncio.run(_serve(options, listen))


async def _serve(options: Options, listen: Listen) -> None:
    engine = Engine(options)
    ended = _on_signals()
    try:
        front = listen(options.hosts)
    except BaseException:
        engine.state.close()
        raise
    try:
        with _pidfile(options):
            await engine.start()
            front.start(engine)
            log.info("ready: %s", ", ".join(options.hosts))
            try:
                await ended.wait()
            finally:
                log.info("ending; containers run on")
                await front.close()
                await engine.close()
    except BaseException:
        await front.close()
        raise


def _on_signals() -> asyncio.Event:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if ended.is_set():
            os._exit(128 + number)
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return ended


@contextlib.contextmanager
def _pidfile(options: Options) -> Iterator[None]:
    if options.pidfile is None:
        yield
        return
    options.pidfile.parent.mkdir(parents=True, exist_ok=True)
    options.pidfile.write_text(f"{os.getpid()}\n")
    try:
        yield
    finally:
        options.pidfile.unlink(missing_ok=True)


def _set_up_log(level: str) -> None:
    if level not in _LEVELS:
        raise InvalidArgument(f"unknown log level {level!r}: use one of {', '.join(_LEVELS)}")
    logging.basicConfig(
        level=_LEVELS[level], format="%(asctime)s.%(msecs)03d %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S"
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
