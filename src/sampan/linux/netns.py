"""Network namespaces (network_namespaces(7)): made, entered and left by one thread, held by file descriptors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sampan.linux import clone


def current() -> int:
    """A descriptor (close-on-exec) of the calling thread's network namespace; the caller closes it."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def created(home: int) -> Iterator[int]:
    """Inside the block the thread is in a new network namespace, afterwards in that of the descriptor `home`.

    Yields a descriptor of the new one, which the caller closes. If the way home fails the process ends
    (SystemExit): its next action on "the host" would hit the wrong network.
    """
    clone.unshare(clone.NEWNET)
    try:
        yield current()
    finally:
        _return(home)


@contextmanager
def entered(netns: int, home: int) -> Iterator[None]:
    """Inside the block the thread is in the network namespace of `netns`, afterwards in that of `home`."""
    clone.setns(netns, clone.NEWNET)
    try:
        yield
    finally:
        _return(home)


def _return(home: int) -> None:
    try:
        clone.setns(home, clone.NEWNET)
    except OSError as error:
        reason = f"cannot return to the host's network namespace: {error}"
        raise SystemExit(reason) from error  # allowed: to go on would be to act on the wrong network
