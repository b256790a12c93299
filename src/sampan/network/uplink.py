"""The host's way out: how large a packet it carries."""

from __future__ import annotations

from sampan.linux.rtnetlink import RouteSocket

DEFAULT_MTU = 1500


def mtu(routes: RouteSocket) -> int:
    """Bytes of the largest packet for the bridge: the preferred default route's own MTU, else its device's; 1500
    without a default route.

    Paths can be narrower than both. Connections through the bridge are told so: their MSS is clamped (ruleset.py).
    """
    defaults = [route for route in routes.routes() if route.prefix == 0 and route.index]
    if not defaults:
        return DEFAULT_MTU
    best = min(defaults, key=lambda route: route.metric)
    if best.mtu:
        return best.mtu
    sizes = {link.index: link.mtu for link in routes.links()}
    return min(max(sizes.get(best.index, DEFAULT_MTU), 68), 65535)
