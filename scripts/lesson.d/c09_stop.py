from __future__ import annotations

import time

from lesson import Lesson

TITLE = "Stop"
SAYS = "A signal, the grace time, then SIGKILL."
MORE = """\
A process that has no handler for a signal meets the signal's default action, for SIGTERM its end. Process 1 of a pid
namespace is exempt: what it does not handle is dropped, or else any process in it could end the whole container.
SIGKILL and SIGSTOP from outside are the exception. A program that was not written to be process 1 thus ignores a
polite stop without knowing. The way out is `--init`: a tiny process 1 that passes signals on and reaps orphans.
"""


def tell(lesson: Lesson) -> None:
    page, show = lesson.page, lesson.shell.show
    signal = lesson.shell.ask("sampan inspect -f '{{.Config.StopSignal}}' httpd:v1")
    began = time.monotonic()
    result = show("sampan stop web")
    seconds = time.monotonic() - began
    status = lesson.inspect("web", "{{.State.Status}} {{.State.ExitCode}}")
    page.claim(f"apache gets its STOPSIGNAL, {signal}, and ends by itself: exit code 0 after {seconds:.1f} s",
               result.status == 0 and status == "exited 0" and seconds < 9, status)

    page.pause("Process 1 is special: the kernel drops signals that it has no handler for.")
    show("sampan run -d --name deaf busybox sleep 1000")
    began = time.monotonic()
    result = show("sampan stop -t 2 deaf")
    seconds = time.monotonic() - began
    status = lesson.inspect("deaf", "{{.State.ExitCode}}")
    page.claim(f"sleep has none for SIGTERM: killed after the grace time, {seconds:.1f} s, status 137",
               status == "137" and seconds >= 2, status)
    if lesson.own:
        page.claim("and stop says why, and what to do", "--init" in result.text, result.text)
    else:
        page.note("sampan's stop says why it took so long, and what to do about it")

    show("sampan run -d --name polite --init busybox sleep 1000")
    began = time.monotonic()
    show("sampan stop -t 10 polite")
    seconds = time.monotonic() - began
    status = lesson.inspect("polite", "{{.State.ExitCode}}")
    page.claim(f"with --init a small process 1 passes the signal on: {seconds:.1f} s, status 143 is 128 + 15, SIGTERM",
               status == "143" and seconds < 5, status)
