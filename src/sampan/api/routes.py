"""All routes of the Engine API that are answered."""

from __future__ import annotations

from sampan.api import system
from sampan.api.router import Route

ROUTES: list[Route] = [*system.ROUTES]
