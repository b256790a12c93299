"""/build."""

from __future__ import annotations

from sampan.api.router import Route

ROUTES: list[Route] = []
