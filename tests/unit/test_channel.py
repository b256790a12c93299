"""Messages between processes: none is lost, whoever ends first."""

from __future__ import annotations

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
