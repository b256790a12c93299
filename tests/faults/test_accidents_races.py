"""Several clients want different things of a container at the same moment: no defect, nothing left, nothing stuck."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from engine_fixture import Engine, engine

ROUNDS = 15


@pytest.fixture(scope="module")
def boat() -> Iterator[Engine]:
    with engine() as made:
        yield made


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(acts)) as pool:
        return [future.result() for future in [pool.submit(act) for act in acts]]


def post(boat: Engine, path: str, body: Any = None) -> Callable[[], int]:
    return lambda: boat.request("POST", path, body)[0]


def removal(boat: Engine, id: str) -> Callable[[], int]:
    return lambda: boat.request("DELETE", f"/containers/{id}?force=1")[0]


def test_nothing_starts_a_container_that_is_being_removed(boat: Engine) -> None:
    for _ in range(ROUNDS):
        id = boat.run("sleep", "1000")
        restarted, started, removed = at_once(
            post(boat, f"/containers/{id}/restart?t=0"), post(boat, f"/containers/{id}/start"), removal(boat, id)
        )
        assert removed == 204
        assert restarted in (204, 304, 404, 409) and started in (204, 304, 404, 409)
        assert boat.request("GET", f"/containers/{id}/json")[0] == 404
        assert not (boat.data_root / "containers" / id).exists()
        assert not (boat.exec_root / "containers" / id).exists()


def test_a_paused_container_is_killed_twice_at_once(boat: Engine) -> None:
    for _ in range(ROUNDS):
        id = boat.run("sleep", "1000")
        boat.ask("POST", f"/containers/{id}/pause")
        assert set(at_once(post(boat, f"/containers/{id}/kill"), post(boat, f"/containers/{id}/kill"))) <= {204, 409}
        assert boat.wait(id) == 137
        boat.ask("DELETE", f"/containers/{id}")


def test_a_container_is_killed_while_it_freezes(boat: Engine) -> None:
    for _ in range(ROUNDS):
        id = boat.run("sleep", "1000")
        paused, killed = at_once(post(boat, f"/containers/{id}/pause"), post(boat, f"/containers/{id}/kill"))
        assert paused in (204, 409) and killed == 204
        assert boat.wait(id) == 137
        boat.ask("DELETE", f"/containers/{id}")


def test_a_container_ends_while_something_is_asked_of_it(boat: Engine) -> None:
    for _ in range(ROUNDS):
        id = boat.run("sleep", "1000")
        exec_id = boat.ask("POST", f"/containers/{id}/exec", {"Cmd": ["true"], "AttachStdout": True})["Id"]
        answers = at_once(
            post(boat, f"/containers/{id}/kill"), post(boat, f"/exec/{exec_id}/start", {"Detach": True}),
            post(boat, f"/containers/{id}/update", {"PidsLimit": 100}), post(boat, f"/containers/{id}/pause"),
        )
        assert max(answers) < 500, boat.log[-2000:]
        assert boat.wait(id) == 137
        boat.ask("DELETE", f"/containers/{id}")
