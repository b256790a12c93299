"""What a runtime says when it fails (`--log-format json`), as dockerd tells it: message and exit code."""

from __future__ import annotations

import os

import msgspec

from sampan.errors import StartFailed

_MAX_LOG = 1 << 20
_MAX_WORDS = 16 << 10
_NOT_FOUND = ("executable file not found", "no such file or directory", "system cannot find the file specified")
_NOT_A_DIRECTORY = (
    ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is "
    "the expected type"
)


class _Line(msgspec.Struct):
    msg: str = ""
    level: str = ""


_decode = msgspec.json.Decoder(_Line).decode


def words(log: int, spoken: bytes) -> str:
    """The last error in the log, an open file; else the last of what was printed, which is not the log's. "" if it
    said nothing. Broken lines are skipped: it is another's file.
    """
    found = ""
    for line in os.pread(log, _MAX_LOG, 0).splitlines():
        try:
            entry = _decode(line)
        except msgspec.DecodeError:
            continue
        if entry.level in ("error", "fatal", "panic") and entry.msg.strip():
            found = entry.msg
    if not found:
        lines = [line for line in spoken.decode("utf-8", "replace").splitlines() if line.strip()]
        found = lines[-1] if lines else ""
    return " ".join(found.split())[:_MAX_WORDS]


def of_start(said: str, program: str, doing: str) -> StartFailed:
    """The error of a start or an exec. `program` is the container's; `doing` what comes before the runtime's words.

    Exit codes by the words, as dockerd has it: 127 when the program is not there or something is mounted onto what it
    does not fit, 126 when it may not be run, else 125.
    """
    low, code = said.lower(), 125
    if program in said and any(text in low for text in _NOT_FOUND):
        code = 127
    if "permission denied" in low:
        code = 126
    if "not a directory" in low:
        said, code = said + _NOT_A_DIRECTORY, 127
    return StartFailed(f"{doing}{said}", code)
