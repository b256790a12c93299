"""The log as runc writes it (logrus): containerd, conmon and podman read the reason of a failure from it.

Text: `time="2026-01-31T12:00:00Z" level=error msg="container does not exist"`, in colour and short on a terminal.
JSON: `{"level":"error","msg":"…","time":"…"}`, one object a line.
"""

from __future__ import annotations

import errno
import os
import time

from sampan.errors import InvalidArgument
from sampan.lean.structs import encode
from sampan.linux import signals

_WORDS = {"debug": ("DEBU", 37), "info": ("INFO", 36), "warning": ("WARN", 33), "error": ("ERRO", 31)}
_LONGEST = 4096
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/@^+")


class Log:
    """Where messages go: stderr, or a file that is appended to. Each message is one write."""

    def __init__(self, path: str = "", form: str = "text", debug: bool = False) -> None:
        """Raises InvalidArgument for a form that is not text or json, OSError with the path."""
        if form not in ("text", "json", ""):
            raise InvalidArgument(f"invalid log-format: {form}")
        self._json = form == "json"
        self.debugging = debug
        self._begin = time.monotonic()
        self._fd = 2
        if path and path != "/dev/stderr":
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_SYNC | os.O_CLOEXEC
            self._fd = os.open(path, flags, 0o644)

    def fatal(self, message: str) -> None:
        """The reason why the command failed: to the log, and to stderr where the log is another file."""
        self._say("error", message)
        if self._fd != 2:
            write(2, f"{printable(_shortened(message))}\n".encode(errors="replace"))

    def warning(self, message: str) -> None:
        self._say("warning", message)

    def debug(self, message: str) -> None:
        """Only with --debug."""
        if self.debugging:
            self._say("debug", message)

    def _say(self, level: str, message: str) -> None:
        message = _shortened(message).encode(errors="replace").decode()  # file names hold any bytes, JSON may not
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._json:
            line = encode({"level": level, "msg": message, "time": now})
        elif os.isatty(self._fd):
            word, color = _WORDS[level]
            since = int(time.monotonic() - self._begin)
            line = f"\x1b[{color}m{word}\x1b[0m[{since:04d}] {printable(message)}".encode()
        else:
            line = f'time="{now}" level={level} msg={quoted(message)}'.encode()
        write(self._fd, line + b"\n")


def _shortened(message: str) -> str:
    """What it quotes may be as long as a config.json."""
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"


def quoted(text: str) -> str:
    """As logrus quotes a value: only when something in it needs it, with Go's escapes."""
    if text and _PLAIN.issuperset(text):
        return text
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def printable(text: str) -> str:
    """On one line whatever names of files it quotes: Go's escapes for what is no printable character."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(c: str) -> str:
    if c in "\n\t\r":
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}[c]
    return f"\\x{ord(c):02x}" if ord(c) < 128 else f"\\u{ord(c):04x}"


def write(fd: int, data: bytes) -> None:
    """All of it. That stderr or the log cannot be written, its reader gone or its disk full, is no reason to fail in
    another way. A reader of stdout that has gone ends us without a word, as it ends other programs (Python ignores
    SIGPIPE); else its errors are raised, with its name.
    """
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        if fd != 1:
            return
        if error.errno == errno.EPIPE:
            signals.signal(signals.SIGPIPE, signals.SIG_DFL)
            os.kill(os.getpid(), signals.SIGPIPE)
        raise OSError(error.errno, error.strerror, "write /dev/stdout") from error
