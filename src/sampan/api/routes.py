"""All routes of the Engine API that are answered."""

from __future__ import annotations

from itertools import chain

from sampan.api import archive, builds, container_streams, containers, execs, images, networks, swarm, system, volumes
from sampan.api.router import Route

ROUTES: tuple[Route, ...] = tuple(chain(
    system.ROUTES, containers.ROUTES, container_streams.ROUTES, archive.ROUTES, execs.ROUTES, images.ROUTES,
    builds.ROUTES, volumes.ROUTES, networks.ROUTES, swarm.ROUTES,
))
