"""A shim's life, played in the launcher with props: its shims find all code specialised and all caches full.

The interpreter rewrites bytecode as it runs (PEP 659), and msgspec builds decoders at first use: in a shim each of
these writes would make a page its own for as long as the container lives.
"""

from __future__ import annotations

import gc
import os
import socket

import msgspec

from sampan.jobs import channel as wire
from sampan.linux import process
from sampan.linux.cgroup import Host
from sampan.shim import arrival
from sampan.shim.messages import ClientOptions, Log, Setup
from sampan.shim.shim import Shim
from sampan.shim.warm import warm

_REPORT = "." * 5000  # a usual one's size


def rehearse(rounds: int) -> None:
    """The start's pure parts (warm.py), then the shim's. Leaves no descriptor and no process behind."""
    warm(rounds)
    for _ in range(rounds):
        before = [int(name) for name in os.listdir("/proc/self/fd")]
        _play()
        gc.collect()  # closes the sockets of the shim that was
        process.close_all_but(before)


def _play() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    ours, theirs = wire.pair()
    engine, control = wire.pair()
    client, attached = socket.socketpair()
    listener, nobody = socket.socketpair()  # a socket on which nothing happens
    output, writing = os.pipe()
    errors, _ = os.pipe()
    host, options = Host("v1", {"cpu": "/c"}), ClientOptions(True, True, True, False)
    setup = Setup("i", "/d", host, "a/b", True, False, Log("/dev/null"), clients=[options])
    message = {"start": setup, "pid": os.getpid(), "begin": 0}
    fds = [
        control.fileno(), os.open("/", os.O_RDONLY), os.pidfd_open(os.getpid()), listener.fileno(),
        os.open("/dev/null", os.O_WRONLY), output, errors, attached.fileno(),
    ]
    wire.send(ours, msgspec.to_builtins(message), fds)
    wire.send(ours, {"ready": _REPORT})
    ours.close()
    received = wire.receive(theirs)
    assert received is not None
    arrived = arrival.follow(theirs, *received)
    assert arrived is not None
    shim = Shim(*arrived)
    os.write(writing, b"a line\n")
    shim.watch([child])
    client.shutdown(socket.SHUT_WR)
    engine.send(b'{"do": "ack", "id": ""}')
    while shim.turn():
        if client.recv(100, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            break
    shim.turn()
    nobody.close()
