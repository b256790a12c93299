"""One HTTP/1.1 connection: h11 for the protocol, a plain non-blocking socket below, so that it can be given away.

    client                    connection                          handler
      │ request ─────────────────▶│ head parsed ────────────────────▶│
      │                           │◀── body, piece by piece ────────┤ (the socket is the only buffer: backpressure)
      │◀──────── response ────────┤◀── Response, or start/write… ───┤
      │  or: 101, then the socket itself leaves with the handler (hijack), and the connection forgets it
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from http import HTTPStatus

import h11

from sampan.api.response import Response

MAX_HEAD = 256 << 10  # X-Registry-Config carries every registry login of the client
_CHUNK = 256 << 10
_DRAIN = 256 << 10  # an unread body up to this size is read away to keep the connection, as Go's server does
_LINGER = 10.0  # seconds a client gets to notice the answer while it still sends
_REASON = {status.value: status.phrase.encode() for status in HTTPStatus}

Headers = list[tuple[bytes, bytes]]


class Connection:
    """Reads requests and writes answers. Its reading half and its writing half may be two tasks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.idle = True  # between two requests, or after the last: nothing is lost when it is cut
        self.hijacked = False
        self.started = False  # the answer to the present request has begun: its status can no longer change
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._first: bytes | None = None  # a piece of body that came with the head
        self._head_only = False
        self._torn = False  # reading was cancelled: bytes may be lost, this connection ends with its answer

    # -- reading

    async def next_request(self) -> h11.Request | None:
        """The next request's head; None when the client has left. Raises h11.RemoteProtocolError, ConnectionError."""
        self.idle = True
        event = await self._next_event()
        if not isinstance(event, h11.Request):
            return None
        self.idle = False
        self._head_only = event.method == b"HEAD"
        following = self._http.next_event()  # most requests have no body; then this is their end
        self._first = bytes(following.data) if isinstance(following, h11.Data) else None
        return event

    @property
    def body_left(self) -> bool:
        """Is there some of the request's body that nobody has read?"""
        return self._first is not None or self._http.their_state is h11.SEND_BODY

    async def read(self) -> bytes:
        """The next piece of the request's body, b"" at its end.

        Raises ConnectionError when the client leaves in the middle, h11.RemoteProtocolError for bad chunks.
        """
        if (first := self._first) is not None:
            self._first = None
            return first
        if self._http.their_state is not h11.SEND_BODY:
            return b""
        if self._http.they_are_waiting_for_100_continue and not self.started:
            await self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
        event = await self._next_event()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def _next_event(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._receive())
        except asyncio.CancelledError:
            self._torn = True
            raise
        return event

    async def _receive(self) -> bytes:
        """What the client sent. One that never pauses gets its turn like the others: asyncio's own `sock_recv` goes on
        at once when there is data, and a fast upload would keep the loop for itself."""
        try:
            data = self.sock.recv(_CHUNK)
        except BlockingIOError:
            return await self._loop.sock_recv(self.sock, _CHUNK)
        await asyncio.sleep(0)
        return data

    # -- writing

    async def respond(self, response: Response, headers: Headers) -> None:
        """A whole answer in one write."""
        head = [*headers, *response.headers]
        if response.content_type:
            head.append((b"Content-Type", response.content_type))
        if response.status not in (204, 304):
            head.append((b"Content-Length", b"%d" % len(response.body)))
        data = self._head(response.status, head)
        if response.body and not self._head_only:
            data += self._send(h11.Data(data=response.body))
        await self._write(data + self._send(h11.EndOfMessage()))

    async def start(self, status: int, headers: Headers) -> None:
        """The head of a streamed answer, written at once: clients wait for it before they go on."""
        await self._write(self._head(status, list(headers)))

    async def write(self, data: bytes) -> None:
        """A piece of a streamed answer. Waits while the client does not read."""
        if data:
            await self._write(self._send(h11.Data(data=data)))
            await asyncio.sleep(0)  # a client that reads as fast as we write must not keep the loop for itself

    async def finish(self) -> None:
        """End a streamed answer."""
        await self._write(self._send(h11.EndOfMessage()))

    def _head(self, status: int, head: Headers) -> bytes:
        self.started = True
        # A client that waits for "100 Continue" may or may not send its body after a final answer: no next request.
        if self._http.they_are_waiting_for_100_continue:
            head.append((b"Connection", b"close"))
        return self._send(h11.Response(status_code=status, headers=head, reason=_REASON.get(status, b"")))

    def _send(self, event: h11.Event) -> bytes:
        return self._http.send(event) or b""

    async def _write(self, data: bytes | None) -> None:
        if data:
            await self._loop.sock_sendall(self.sock, data)

    # -- giving away, ending

    async def hijack(self, head: bytes) -> bytes:
        """Write `head` and stop being HTTP: the socket is the caller's now. Returns what the client already sent."""
        self.started = True
        self.hijacked = True
        await self._write(head)
        return bytes(self._http.trailing_data[0])

    async def recycle(self) -> bool:
        """Make ready for the next request. False: this was the last one, close."""
        if self._torn or self._http.our_state is not h11.DONE:
            return False
        drained = 0
        while self.body_left and drained <= _DRAIN:
            drained += len(await self.read())
        if self._http.their_state is not h11.DONE or self.body_left:
            return False
        self._http.start_next_cycle()
        self.started = False
        if self._http.trailing_data[0]:
            await asyncio.sleep(0)  # a pipeline of requests takes its turn with others
        return True

    async def linger(self) -> None:
        """Say that nothing more comes, and read away what the client still sends until it has noticed.

        Closing at once would reset the connection under a client that is still writing its body, and the
        answer that explains why would be lost.
        """
        self.idle = True
        with contextlib.suppress(OSError, TimeoutError):
            self.sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(_LINGER):
                while await self._receive():
                    pass

    def close(self) -> None:
        self.sock.close()
