"""The server: listening sockets, connections, the way of a request to its handler and of an error to its status."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import select
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

import h11

from sampan import __version__
from sampan.api import response as answer
from sampan.api import status
from sampan.api.call import Call
from sampan.api.connection import Connection, Headers
from sampan.api.listen import Listener
from sampan.api.response import Response
from sampan.api.router import MAX_VERSION, Router, split_version
from sampan.errors import SampanError

if TYPE_CHECKING:
    from sampan.engine.engine import Engine

log = logging.getLogger(__name__)

HEADERS: Headers = [
    (b"Api-Version", b"%d.%d" % MAX_VERSION),
    (b"Docker-Experimental", b"false"),
    (b"Ostype", b"linux"),
    (b"Server", f"Sampan/{__version__} (linux)".encode()),
]
_ACCEPTS = 64  # per wake-up, so that a flood of connections does not starve the ones there are


class Server:
    """`Server(engine, Router(ROUTES)).start([listen.unix_socket(path)])`, later `await close()`."""

    def __init__(self, engine: Engine, router: Router) -> None:
        self._engine = engine
        self._router = router
        self._listeners: list[Listener] = []
        self._paused = self._closing = False
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._abandonable: dict[int, Connection] = {}  # by descriptor, while its request may be given up
        self._hangups = select.epoll()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._hangups.fileno(), self._hung_up)

    @property
    def connections(self) -> int:
        """How many are open now; hijacked ones are no longer ours."""
        return len(self._connections)

    def start(self, listeners: Sequence[Listener]) -> None:
        """Serve on listening sockets (see `listen`), which are closed by `close`."""
        self._listeners.extend(listeners)
        for listener in listeners:
            self._loop.add_reader(listener.sock.fileno(), self._accept, listener.sock)

    async def close(self, grace: float = 5.0) -> None:
        """Stop listening, end idle connections and streams, wait for the other requests at most `grace` seconds."""
        self._closing = True
        for listener in self._listeners:
            self._loop.remove_reader(listener.sock.fileno())
            listener.close()
        self._listeners.clear()
        streams = set(self._abandonable.values())
        for connection, task in list(self._connections.items()):
            if connection.idle or connection in streams:
                task.cancel()
        if self._connections:
            _, late = await asyncio.wait(self._connections.values(), timeout=grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        self._loop.remove_reader(self._hangups.fileno())
        self._hangups.close()

    # -- connections

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                self._pause(error)
                return
            connection = Connection(sock)
            self._connections[connection] = self._loop.create_task(self._serve(connection))

    def _pause(self, error: OSError) -> None:
        """Out of descriptors: accept no more until a connection has ended."""
        log.warning("no new connections for now: %s", error)
        for listener in self._listeners:
            self._loop.remove_reader(listener.sock.fileno())
        self._paused = True
        if not self._connections:
            self._loop.call_later(1, self._resume)

    def _resume(self) -> None:
        self._paused = False
        for listener in self._listeners:
            self._loop.add_reader(listener.sock.fileno(), self._accept, listener.sock)

    def _hung_up(self) -> None:
        """Clients that closed their end while their request runs; a mere half-close (shutdown) is no hang-up."""
        for fd, _ in self._hangups.poll(0):
            if (connection := self._abandonable.pop(fd, None)) is not None:
                self._connections[connection].cancel()

    async def _serve(self, connection: Connection) -> None:
        try:
            await self._requests(connection)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client is gone, or the server closes
        except Exception:
            log.exception("a connection ended by a defect")
        finally:
            del self._connections[connection]
            if not connection.hijacked:
                connection.close()
            if self._paused:
                self._resume()

    async def _requests(self, connection: Connection) -> None:
        try:
            while (request := await connection.next_request()) is not None:
                await self._answer(connection, request)
                if connection.hijacked or self._closing:
                    return
                if not await connection.recycle():
                    await connection.linger()
                    return
        except h11.RemoteProtocolError as error:
            await self._refuse(connection, error)

    async def _refuse(self, connection: Connection, error: h11.RemoteProtocolError) -> None:
        """Not HTTP, or a client that broke off in the middle: say so if it can still be said."""
        if connection.hijacked or connection.started:
            return
        refusal = answer.error(error.error_status_hint, f"bad request: {error}")
        with contextlib.suppress(h11.LocalProtocolError):
            await connection.respond(refusal, [*HEADERS, (b"Connection", b"close")])
            await connection.linger()

    # -- requests

    async def _answer(self, connection: Connection, request: h11.Request) -> None:
        try:
            response = await self._handle(connection, request)
        except SampanError as error:
            response = self._failed(connection, request, error)
        except (ConnectionError, h11.RemoteProtocolError):
            raise
        except Exception as error:
            log.exception("%s %s", request.method.decode(), request.target.decode())
            response = self._failed(connection, request, error)
        if connection.hijacked:
            return
        if response is not None:
            await connection.respond(response, HEADERS)
        else:
            await connection.finish()

    async def _handle(self, connection: Connection, request: h11.Request) -> Response | None:
        target, _, query = request.target.decode("ascii").partition("?")
        version, path = split_version(target)
        route, name = self._router.find(request.method.decode("ascii"), path)
        call = Call(self._engine, connection, request, version, name, query, HEADERS)
        if not route.abandon:
            return await route.handler(call)
        fd = connection.sock.fileno()
        self._abandonable[fd] = connection
        self._hangups.register(fd, 0)  # EPOLLHUP and EPOLLERR are always told
        try:
            return await route.handler(call)
        finally:
            self._abandonable.pop(fd, None)
            self._hangups.unregister(fd)

    def _failed(self, connection: Connection, request: h11.Request, error: Exception) -> Response:
        code, message = status.of(error)
        if connection.started:
            log.warning("%s %s broke off: %s", request.method.decode(), request.target.decode(), message)
            raise ConnectionAbortedError(message)  # the missing end tells the client that the answer is not whole
        return answer.error(code, message)
