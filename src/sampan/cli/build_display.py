"""Showing a build: plain lines as Docker's classic builder writes them, or steps in place on a terminal."""

from __future__ import annotations

import re
import shutil
import sys
import time

from sampan.cli.failure import CommandFailed

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f]")
NOISE = re.compile(r" ---> (Running in|Removed intermediate container|[0-9a-f]{12}$)|Removing intermediate container ")
WINDOW = 6
KEPT_LINES = 200
DIM, BOLD, RED, GREEN, RESET = "\033[2m", "\033[1m", "\033[31m", "\033[32m", "\033[0m"


class Plain:
    """Every message as it comes."""

    def __init__(self) -> None:
        self.image_id = ""

    def message(self, message: dict[str, Any]) -> None:
        """Raises CommandFailed for the message that ends a build that failed."""
        self.image_id = (message.get("aux") or {}).get("ID") or self.image_id
        if "error" in message:
            self.failed()
            raise build_failure(message)
        if "stream" in message:
            self.stream(str(message["stream"]))
        elif message.get("status"):
            prefix = f"{message['id']}: " if message.get("id") else ""
            self.stream(f"{prefix}{message['status']} {message.get('progress') or ''}".rstrip() + "\n")

    def stream(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def failed(self) -> None:
        pass

    def finished(self) -> None:
        pass


class Quiet(Plain):
    """Only the image's id, at the end; the output of a build that failed."""

    def __init__(self) -> None:
        super().__init__()
        self._text: list[str] = []

    def stream(self, text: str) -> None:
        self._text.append(text)

    def failed(self) -> None:
        sys.stderr.write("".join(self._text))

    def finished(self) -> None:
        print(self.image_id or "".join(self._text).strip())


class Steps(Plain):
    """On a terminal: one line a step with its time, and the last lines of output below the running one.

    They are gone when the step is done; a step that fails leaves all of its output.
    """

    def __init__(self) -> None:
        super().__init__()
        self._title = ""
        self._position = ""
        self._began = 0.0
        self._cached = False
        self._lines: list[str] = []
        self._rest = ""
        self._drawn = 0
        self._notes: list[str] = []

    def stream(self, text: str) -> None:
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            self._line(line)
        self._draw()

    def _line(self, line: str) -> None:
        step = STEP.fullmatch(line)
        if step:
            self._close(GREEN + "✓" + RESET)
            self._position, self._title = f"[{step[1]}/{step[2]}]", step[3]
            self._began, self._cached, self._lines = time.monotonic(), False, []
        elif line == " ---> Using cache":
            self._cached = True
        elif line.startswith(("Successfully built", "Successfully tagged")):
            self._close(GREEN + "✓" + RESET)
            self._notes.append(line)
        elif not NOISE.match(line):
            # \r rewrites the line (progress bars): what it ends as is what counts.
            self._lines = [*self._lines[-KEPT_LINES:], CONTROL.sub("", line.rstrip("\r").rpartition("\r")[2])]

    def _header(self, mark: str, note: str) -> str:
        width = max(shutil.get_terminal_size().columns, 20)
        room = width - len(self._position) - len(note) - 5
        title = self._title if len(self._title) <= room else self._title[: max(room - 1, 0)] + "…"
        return f"{mark} {BOLD}{self._position}{RESET} {title.ljust(max(room, 0))} {DIM}{note}{RESET}"

    def _draw(self) -> None:
        if not self._title:
            return
        width = max(shutil.get_terminal_size().columns, 20)
        lines = [self._header("•", "")]
        lines += [f"  {DIM}{line.expandtabs()[: width - 3]}{RESET}" for line in self._lines[-WINDOW:]]
        self._redraw(lines)

    def _redraw(self, lines: list[str]) -> None:
        up = f"\033[{self._drawn}A" if self._drawn else ""
        sys.stdout.write(f"{up}\033[J" + "".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
        self._drawn = len(lines)

    def _close(self, mark: str) -> None:
        if not self._title:
            return
        took = time.monotonic() - self._began
        self._redraw([self._header(mark, "cached" if self._cached else f"{took:.1f}s")])
        self._drawn, self._title = 0, ""

    def failed(self) -> None:
        if self._rest:
            self._line(self._rest)
        lines = self._lines
        self._close(RED + "✗" + RESET)
        for line in lines:
            print(f"  {line}")
        sys.stdout.flush()

    def finished(self) -> None:
        self._close(GREEN + "✓" + RESET)
        for note in self._notes:
            print(note)


def build_failure(message: dict[str, Any]) -> CommandFailed:
    """The build's error; a RUN's exit status becomes the command's."""
    detail = message.get("errorDetail") or {}
    code = detail.get("code")
    return CommandFailed(str(detail.get("message") or message["error"]), code if isinstance(code, int) and code else 1)
