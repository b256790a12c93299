"""/exec and /containers/ID/exec."""

from __future__ import annotations

from sampan.api import response as answer
from sampan.api import terminal
from sampan.api.call import Call
from sampan.api.response import OK, Response
from sampan.api.router import Route
from sampan.errors import Conflict, SampanError
from sampan.shim.messages import ClientOptions


async def create(call: Call) -> Response:
    return answer.json(call.engine.execs.create(call.name, await call.json()), 201)


async def start(call: Call) -> Response | None:
    """Detached: an answer. Else the connection becomes the process's stdio, and errors are said on it as by dockerd."""
    body = await call.json(optional=True)
    tty, size = bool(body.get("Tty")), terminal.console_size(body)
    known = call.engine.execs.inspect(call.name)
    if body.get("Detach"):
        await call.engine.execs.start(call.name, None, tty, size)
        return OK
    if known["Running"] or known["ExitCode"] is not None:
        raise Conflict(f"exec {call.name} has already {'been started' if known['Running'] else 'run'}")
    options = ClientOptions(
        stdin=known["OpenStdin"], stdout=known["OpenStdout"], stderr=known["OpenStderr"], tty=tty,
        detach_keys=known["DetachKeys"],
    )
    client = await terminal.take(call, tty, options)
    spare = client.sock.dup()
    try:
        await call.engine.execs.start(call.name, client, tty, size)
    except SampanError as error:
        terminal.tell(spare, tty, str(error))
    finally:
        spare.close()
    return None


async def resize(call: Call) -> Response:
    await call.engine.execs.resize(call.name, *terminal.window(call))
    return OK


async def inspect(call: Call) -> Response:
    return answer.json(call.engine.execs.inspect(call.name))


ROUTES = [
    Route("POST", "/containers/{name}/exec", create),
    Route("POST", "/exec/{name}/start", start),
    Route("POST", "/exec/{name}/resize", resize),
    Route("GET", "/exec/{name}/json", inspect),
]
