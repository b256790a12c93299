"""The relay of a foreground process, one step at a time, on pipes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sampan.runtime.lifecycle.foreground import Pump


class Pipes:
    """source ═▶ [reading … writing] ═▶ sink, all ends non-blocking."""

    def __init__(self) -> None:
        self.reading, self.source = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.sink, self.writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self, *names: str) -> None:
        for name in names or ("reading", "source", "sink", "writing"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    made = Pipes()
    yield made
    made.close()


def test_bytes_go_through_and_nothing_is_awaited(pipes: Pipes) -> None:
    pump = Pump(pipes.reading, pipes.writing)
    assert not pump.step()
    os.write(pipes.source, b"hello")
    assert pump.step() and pump.waits_for()[0] == pipes.writing
    assert pump.step() and pump.waits_for()[0] == pipes.reading
    assert os.read(pipes.sink, 100) == b"hello"


def test_the_end_of_file_is_passed_on(pipes: Pipes) -> None:
    pump = Pump(pipes.reading, pipes.writing, pipes.writing)
    pipes.close("source")
    assert not pump.step() and pump.ended
    pipes.writing = -1  # the pump has closed it
    assert os.read(pipes.sink, 100) == b""


def test_a_reader_that_has_gone_is_told_to_the_writer(pipes: Pipes) -> None:
    pump = Pump(pipes.reading, pipes.writing, pipes.reading)
    os.write(pipes.source, b"hello")
    pipes.close("sink")
    while pump.step():
        pass
    pipes.reading = -1
    assert pump.ended
    with pytest.raises(BrokenPipeError):
        os.write(pipes.source, b"more")


def test_a_terminal_is_read_on_when_nobody_takes_it(pipes: Pipes) -> None:
    pump = Pump(pipes.reading, pipes.writing, drops=True)
    pipes.close("sink")
    for _ in range(100):
        os.write(pipes.source, bytes(4096))
        pump.drain()
    assert not pump.ended
    pipes.close("source")
    pump.drain()
    assert pump.ended


def test_a_slow_reader_slows_the_writer_and_loses_nothing(pipes: Pipes) -> None:
    pump = Pump(pipes.reading, pipes.writing)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += os.write(pipes.source, bytes(4096))
            while pump.step():
                pass
    received = 0
    while received < sent:
        try:
            received += len(os.read(pipes.sink, 65536))
        except BlockingIOError:
            pump.drain()
    assert received == sent


def test_what_writes_for_ever_does_not_hold_up_the_end(pipes: Pipes) -> None:
    zero, null = os.open("/dev/zero", os.O_RDONLY), os.open("/dev/null", os.O_WRONLY)
    try:
        Pump(zero, null).drain()
    finally:
        os.close(zero)
        os.close(null)
