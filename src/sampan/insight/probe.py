"""Trying something of the kernel in a forked child: whatever it does to itself, the asker stays as it is."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable

LIMIT = 4096
PATIENCE_MS = 5000


class ProbeFailed(Exception):
    """What was tried does not work here; the text is the reason."""


def attempt(action: Callable[[], str]) -> str:
    """Runs `action` in a child and returns what it returned. Raises ProbeFailed: its error; it hangs; it died.

    The child leaves by _exit: no clean-up of the asker's runs in it. Single-threaded callers only.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _run(action, write)
    os.close(write)
    try:
        text = _answer(read, pid)
    finally:
        os.close(read)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if text.startswith("+"):
        return text[1:]
    if text.startswith("-"):
        raise ProbeFailed(text[1:])
    code = os.waitstatus_to_exitcode(status)
    raise ProbeFailed(f"killed by signal {-code}" if code < 0 and text != "…" else "no answer")


def _run(action: Callable[[], str], write: int) -> None:
    try:
        text = "+" + action()
    except OSError as error:
        text = "-" + (f"{error.filename}: " if error.filename else "") + (error.strerror or str(error))
    except BaseException as error:
        text = "-" + (str(error) or type(error).__name__)
    try:
        os.write(write, text.encode("utf-8", "replace")[:LIMIT])
    finally:
        os._exit(0)


def _answer(read: int, pid: int) -> str:
    poll = select.poll()
    poll.register(read, select.POLLIN)
    if not poll.poll(PATIENCE_MS):
        return "…"
    return os.read(read, LIMIT).decode("utf-8", "replace")


def works(action: Callable[[], str]) -> tuple[bool, str]:
    """(it works, what it returned or why not)."""
    try:
        return True, attempt(action)
    except ProbeFailed as error:
        return False, str(error)
