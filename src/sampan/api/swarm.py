"""What belongs to a swarm: one answer for all of it, dockerd's own on a machine that is in none."""

from __future__ import annotations

from sampan.api import response as answer
from sampan.api.call import Call
from sampan.api.response import Response
from sampan.api.router import Route
from sampan.errors import Unavailable, Unsupported

_COLLECTIONS = ("nodes", "services", "tasks", "secrets", "configs")


async def not_a_manager(call: Call) -> Response:
    raise Unavailable(
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to '
        "swarm and try again."
    )


async def not_supported(call: Call) -> Response:
    raise Unsupported("Sampan has no swarm mode")


async def plugins(call: Call) -> Response:
    """There are none."""
    return answer.json([])


ROUTES = [
    Route("GET", "/swarm", not_a_manager),
    Route("POST", "/swarm/init", not_supported),
    Route("POST", "/swarm/join", not_supported),
    Route("POST", "/swarm/leave", not_a_manager),
    Route("POST", "/swarm/update", not_a_manager),
    Route("GET", "/swarm/unlockkey", not_a_manager),
    Route("POST", "/swarm/unlock", not_a_manager),
    Route("GET", "/plugins", plugins),
    *(Route("GET", f"/{name}", not_a_manager) for name in _COLLECTIONS),
    *(Route("GET", f"/{name}/{{id}}", not_a_manager) for name in _COLLECTIONS),
    *(Route("POST", f"/{name}/create", not_a_manager) for name in _COLLECTIONS),
    *(Route("POST", f"/{name}/{{id}}/update", not_a_manager) for name in _COLLECTIONS),
    *(Route("DELETE", f"/{name}/{{id}}", not_a_manager) for name in _COLLECTIONS),
]
