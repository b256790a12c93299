"""The process that makes network namespaces, `python -m sampan.network.maker FD`.

It changes its own network namespace to make another one, and waits where the kernel makes it wait (removing a veth
takes 10 to 30 ms): neither is for the engine. It keeps no state: addresses and ready namespaces are the engine's, so
killing it loses nothing but the request it was at.

    engine                                   maker
      │ {"serial", "task", "args"}             │
      ├───────────────────────────────────────▶│ one after the other
      │◀── {"serial", "result": {}} + fd, or ──┤
      │    {"serial", "error": {...}}          │

It ends when the engine closes the socket.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from typing import Any

from sampan.errors import InvalidArgument, to_message
from sampan.jobs import channel as wire
from sampan.linux import process
from sampan.linux.conntrack import FlowTable
from sampan.network.namespace import NamespaceFactory, Wiring


class Maker:
    """The tasks, by the names the engine asks for them. Each returns the descriptors to hand over."""

    def __init__(self) -> None:
        self._factory = NamespaceFactory()
        self._flows = FlowTable()
        self._tasks = {
            "bridged": self._bridged,
            "loopback": self._loopback,
            "remove_ports": self._remove_ports,
            "remove_link": self._remove_link,
            "forget_flows": self._forget_flows,
        }

    def run(self, task: str, args: dict[str, Any]) -> list[int]:
        """Raises InvalidArgument for an unknown task, else what the task raises."""
        if task not in self._tasks:
            raise InvalidArgument(f"no task named {task!r}")
        return self._tasks[task](args)

    def _bridged(self, args: dict[str, Any]) -> list[int]:
        return [self._factory.bridged(Wiring(**args))]

    def _loopback(self, _args: dict[str, Any]) -> list[int]:
        return [self._factory.loopback()]

    def _remove_ports(self, args: dict[str, Any]) -> list[int]:
        self._factory.remove_ports(args["bridge"], frozenset(args["keep"]))
        return []

    def _remove_link(self, args: dict[str, Any]) -> list[int]:
        self._factory.remove_link(args["index"])
        return []

    def _forget_flows(self, args: dict[str, Any]) -> list[int]:
        """`to`: a container's address that ends; `udp`: host ports that begin to be published. TCP needs no such
        care: its peers start anew when they are refused."""
        if args["to"]:
            self._flows.forget_server(args["to"])
        if args["udp"]:
            hosts = self._factory.host_addresses()
            for port in args["udp"]:
                self._flows.forget_port("udp", port, hosts)
        return []


def serve(sock: socket.socket) -> None:
    """Answer requests in order until the engine is gone."""
    maker = Maker()
    gc.collect()
    gc.freeze()
    while (received := wire.receive(sock)) is not None:
        request, unwanted = received
        for fd in unwanted:
            os.close(fd)
        made: list[int] = []
        answer: dict[str, Any] = {"serial": request["serial"], "result": {}}
        try:
            made = maker.run(request["task"], request["args"])
        except Exception as error:
            answer = {"serial": request["serial"], "error": to_message(error)}
        try:
            wire.send(sock, answer, made)
        except (BrokenPipeError, ConnectionResetError):
            return
        finally:
            for fd in made:
                os.close(fd)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the engine's terminal is the engine's to handle
    process.set_name("sampan-net")
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        sock.set_inheritable(False)
        serve(sock)
    os._exit(0)


if __name__ == "__main__":
    main()
