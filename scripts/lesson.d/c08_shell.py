from __future__ import annotations

import os

from lesson import Lesson
from terminal import Terminal

TITLE = "A shell"
SAYS = "With -it the container has a terminal, and this one is its window."
MORE = """\
`-t` makes a pseudo terminal: a pair of devices, one end for the shell in the container, the other one held by the
shim. `-i` keeps the input open. What you type goes to the shim as bytes, Ctrl-C as byte 3: it is the terminal in the
container that makes a SIGINT of it, for the process in its foreground. The size of your window travels beside the
bytes, by a call of the API.

The engine is not in this path: it passed the connection on to the shim and forgot it. Kill the engine, and the shell
goes on.
"""


def tell(lesson: Lesson) -> None:
    page = lesson.page
    page.command(lesson.shell.named("sampan run --rm -it debian bash"))
    environment = os.environ | lesson.shell.environment | {"TERM": "xterm"}
    terminal = Terminal([lesson.program, "run", "--rm", "-it", "debian", "bash"], environment, rows=24, columns=80)
    prompt = terminal.expect(r"^root@[0-9a-f]{12}:/# ")
    size = _ask_size(terminal, "24 80")
    terminal.resize(40, 120)
    resized = _ask_size(terminal, "40 120")
    terminal.type("sh -c 'echo asleep; exec sleep 1000'\n")
    terminal.expect(r"^asleep\n")
    terminal.type("\x03")
    interrupted = terminal.expect(r"\^C\n(.*\n)*?.*# $")
    terminal.type("exit 7\n")
    status = terminal.close()
    page.output(terminal.text, shown=20)
    page.claim("a prompt: root in the container", bool(prompt), terminal.text[-200:])
    page.claim("it knows the window's size, 24 by 80, and when it becomes 40 by 120", bool(size and resized))
    page.claim("Ctrl-C ends the sleep, not the shell", bool(interrupted))
    page.claim("the command's exit code is the shell's: 7", status == 7, status)


def _ask_size(terminal: Terminal, wanted: str) -> bool:
    """The window's size travels on its own way: the shell may be asked before it has arrived."""
    for _ in range(10):
        terminal.type("stty size\n")
        answer = terminal.expect(r"^\d+ \d+\n")
        terminal.expect(r"# $")
        if wanted in answer:
            return True
    return False
