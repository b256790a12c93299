"""Messages between processes: none is lost, whoever ends first."""

from __future__ import annotations

import os

import pytest

from sampan.errors import InvalidArgument
from sampan.jobs import channel


def test_what_was_said_before_the_end_is_heard_when_the_other_side_has_not_read_all() -> None:
    """unix(7): the kernel answers ECONNRESET then, once, before it gives what is queued."""
    ours, theirs = channel.pair()
    with ours:
        channel.send(ours, {"go": True})
        channel.send(theirs, {"error": "first"})
        channel.send(theirs, {"error": "second"})
        theirs.close()
        assert channel.receive(ours) == ({"error": "first"}, [])
        assert channel.receive(ours) == ({"error": "second"}, [])
        assert channel.receive(ours) is None
        assert channel.receive(ours) is None


def test_an_end_without_a_word_is_an_end() -> None:
    ours, theirs = channel.pair()
    with ours:
        channel.send(ours, {"go": True})
        theirs.close()
        assert channel.receive(ours) is None


def test_a_message_is_as_long_as_it_is_and_carries_its_descriptors() -> None:
    ours, theirs = channel.pair()
    with ours, theirs:
        message = {"text": "x" * (channel.MAX_MESSAGE - 100)}
        channel.send(theirs, message, [theirs.fileno()])
        channel.send(theirs, {"next": 1})
        received = channel.receive(ours)
        assert received is not None and received[0] == message and len(received[1]) == 1
        os.close(received[1][0])
        assert channel.receive(ours) == ({"next": 1}, [])


def test_a_message_that_is_too_long_is_refused_and_gone() -> None:
    ours, theirs = channel.pair()
    with ours, theirs:
        theirs.send(b'"' + b"x" * channel.MAX_MESSAGE + b'"')
        channel.send(theirs, {"next": 1})
        with pytest.raises(InvalidArgument, match="cut short"):
            channel.receive(ours)
        assert channel.receive(ours) == ({"next": 1}, [])


def test_nothing_waits_on_an_empty_socket_that_does_not_block() -> None:
    ours, theirs = channel.pair()
    with ours, theirs:
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            channel.receive(ours)
