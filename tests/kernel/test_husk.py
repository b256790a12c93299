"""A process that goes on in new namespaces, and the husk it leaves: on the real kernel, each in a fork of its own."""

from __future__ import annotations

import os
import resource
import select
import signal
from collections.abc import Callable

import pytest

from sampan.linux import clone, husk, memory

FLAGS = clone.NEWPID | clone.NEWNS
CLONE_FS = 0x200  # with NEWNS: EINVAL, clone(2)


def _leave(act: Callable[[], None], flags: int = FLAGS) -> int:
    """The pid of a husk whose other half does `act`, and ends with 0 if that returns."""
    pid = os.fork()
    if pid == 0:
        try:
            husk.leave(flags)
            act()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def _say(fd: int, text: str) -> None:
    os.write(fd, f"{text}\n".encode())


def _read(fd: int) -> list[str]:
    """All that was written, until nobody has the other end any more."""
    with os.fdopen(fd) as file:
        return file.read().splitlines()


def _executing(out: int, program: list[str]) -> Callable[[], None]:
    def act() -> None:
        _say(out, f"{os.getpid()} {os.readlink('/proc/self')}")
        os.dup2(out, 1)
        os.execv(program[0], program)

    return act


def test_what_goes_on_is_process_1_of_the_new_namespace_and_executes() -> None:
    reading, writing = os.pipe()
    pid = _leave(_executing(writing, ["/bin/sh", "-c", "echo $$"]))
    os.close(writing)
    said = _read(reading)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    first, outside = said[0].split()
    assert (first, said[1]) == ("1", "1")
    assert int(outside) != pid


def test_the_husk_ends_with_the_execve_and_lets_go_of_everything() -> None:
    """Not with the program: whoever waits for a descriptor's end must not wait for that."""
    reading, writing = os.pipe()
    waits, go = os.pipe()
    pid = _leave(_executing(os.open(os.devnull, os.O_WRONLY), ["/bin/sh", "-c", f"read x <&{waits}"]))
    os.close(writing)
    os.set_inheritable(waits, True)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert select.select([reading], [], [], 20)[0]  # hung up: close-on-exec there, closed here
    for fd in (reading, waits, go):
        os.close(fd)


def test_the_husk_ends_when_the_other_is_killed() -> None:
    reading, writing = os.pipe()

    def act() -> None:
        _say(writing, os.readlink("/proc/self"))
        signal.pause()

    pid = _leave(act)
    with os.fdopen(reading) as file:
        os.close(writing)
        os.kill(int(file.readline()), signal.SIGKILL)
        assert file.read() == ""
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_husk_that_is_killed_takes_no_memory_with_it() -> None:
    reading, writing = os.pipe()
    waits, go = os.pipe()

    def act() -> None:
        os.close(go)
        _say(writing, "born")
        os.read(waits, 1)
        grown = [bytes(4096) for _ in range(1000)]
        _say(writing, f"alive {len(grown)}")

    pid = _leave(act)
    os.close(writing)
    with os.fdopen(reading) as file:
        assert file.readline() == "born\n"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(go)
        assert file.read() == "alive 1000\n"
    os.close(waits)


def test_as_a_sibling_it_is_the_parents_child() -> None:
    reading, writing = os.pipe()
    pid = _leave(lambda: _say(writing, os.readlink("/proc/self")), FLAGS | clone.PARENT)
    os.close(writing)
    sibling = int(_read(reading)[0])
    assert os.waitpid(sibling, 0)[0] == sibling
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_where_no_memory_may_become_executable_it_goes_on_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(husk, "_CODE", {})
    reading, writing = os.pipe()
    pid = _leave(_executing(writing, ["/bin/sh", "-c", "echo $$"]))
    os.close(writing)
    said = _read(reading)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (said[0].split()[0], said[1]) == ("1", "1")


def test_a_refused_clone_is_an_error_in_the_process_that_asked() -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            husk.leave(clone.NEWNS | CLONE_FS)
        except OSError as error:
            _say(writing, f"{error.errno} {os.getpid()}")
        os._exit(0)
    os.close(writing)
    assert _read(reading) == [f"22 {pid}"]
    os.waitpid(pid, 0)


def test_pages_that_one_process_wrote_to_are_the_next_ones_own_from_the_beginning() -> None:
    pages = memory.WorkingSet(1)
    written = [bytearray(b"\1") * 8192 for _ in range(200)]
    minor = []
    for _ in range(2):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            pages.populate()
            pagemap = pages.open()
            before = _faults()
            for each in written:
                each[4096] = 2
            _say(writing, str(_faults() - before))
            if pagemap >= 0:
                pages.learn(pagemap)
            os._exit(0)
        os.close(writing)
        minor.append(int(_read(reading)[0]))
        os.waitpid(pid, 0)
    assert len(pages) >= 200 * 4096
    assert pages.open() == -1  # one lesson was enough
    assert minor[0] >= 200
    assert minor[1] < 50


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
