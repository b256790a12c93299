"""What is measured. A row is a set of contestants, each a function that does the thing once and returns seconds."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import processes
from api import Api, ApiError
from engines import Engine

Once = Callable[[], float]
SETTLE = 3.0
"""Seconds in which engines finish what they do behind a removal."""


@dataclass
class Row:
    """`floor`: what no contestant can beat here (a client's own time, the kernel's); None: not given."""

    title: str
    contestants: dict[str, Once]
    unit: str = "ms"
    samples: dict[str, list[float]] = field(default_factory=dict)


def measure(row: Row, runs: int) -> None:
    """Everybody once for warming up, then everybody once in turn, `runs` times: A B C, A B C, …"""
    row.samples = {name: [] for name in row.contestants}
    for once in row.contestants.values():
        once()
    for _ in range(runs):
        for name, once in row.contestants.items():
            row.samples[name].append(once())


class Cycle:
    """create, start, wait, remove: the engine's own share of a `run --rm`, without any client program."""

    def __init__(self, engine: Engine, network: str) -> None:
        self.name = engine.name
        self.api = engine.api()
        self.body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": network}}
        self.calls: dict[str, list[float]] = {"create": [], "start": [], "wait": [], "remove": []}

    def __call__(self) -> float:
        moments = [time.perf_counter()]
        container = self.api.ask("POST", "/containers/create", self.body)["Id"]
        moments.append(time.perf_counter())
        self.api.ask("POST", f"/containers/{container}/start")
        moments.append(time.perf_counter())
        status = self.api.ask("POST", f"/containers/{container}/wait")["StatusCode"]
        moments.append(time.perf_counter())
        self.api.ask("DELETE", f"/containers/{container}")
        moments.append(time.perf_counter())
        if status != 0:
            raise ApiError(f"{self.name}: the container ended with {status}")
        for call, (before, after) in zip(self.calls.values(), pairwise(moments), strict=True):
            call.append(after - before)
        return moments[-1] - moments[0]

    def start_steps(self) -> dict[str, float]:
        """The flight recorder of one more start: seconds by operation. Empty when the engine keeps none."""
        container = self.api.ask("POST", "/containers/create", self.body)["Id"]
        self.api.ask("POST", f"/containers/{container}/start")
        state = self.api.ask("GET", f"/containers/{container}/json")["State"]
        self.api.ask("DELETE", f"/containers/{container}?force=1")
        steps: dict[str, float] = {}
        for step in state.get("StartSteps") or []:
            steps[step["name"]] = steps.get(step["name"], 0.0) + step["micros"] / 1e6
        return steps


def exec_over_api(engine: Engine, container: str) -> Once:
    api = engine.api()

    def once() -> float:
        began = time.perf_counter()
        api.run_exec(container, ["true"])
        return time.perf_counter() - began

    return once


@dataclass
class Crowd:
    """`count` containers, started by `clients` at once. Seconds; `latencies` in the order the starts began."""

    seconds: float
    latencies: list[float]
    shim_pss: int
    shim: str

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def quarter(self, number: int) -> float:
        """The median of the first (0) to last (3) quarter, seconds."""
        size = max(1, len(self.latencies) // 4)
        part = sorted(self.latencies[number * size : (number + 1) * size])
        return part[len(part) // 2]


def crowd(engine: Engine, count: int, clients: int) -> Crowd:
    """Idle containers on the bridge. Weighs their shims (the parents of their first processes), then removes all."""
    body = {"Image": "busybox", "Cmd": ["sleep", "1000000"], "HostConfig": {"NetworkMode": "bridge"}}
    latencies: list[tuple[float, float]] = []
    ids: list[str] = []
    numbers = iter(range(count))
    errors: list[Exception] = []
    began = time.perf_counter()

    def client() -> None:
        api = Api(engine.socket_path)
        try:
            while next(numbers, None) is not None:
                started = time.perf_counter()
                container = api.ask("POST", "/containers/create", body)["Id"]
                ids.append(container)
                api.ask("POST", f"/containers/{container}/start")
                latencies.append((started, time.perf_counter() - started))
        except (OSError, ApiError) as error:
            errors.append(error)
        finally:
            api.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    api = engine.api()
    try:
        if errors:
            raise errors[0]
        parents = processes.parents()
        shims = [parents[api.ask("GET", f"/containers/{one}/json")["State"]["Pid"]] for one in ids]
        weight = sum(processes.pss(shim) for shim in shims) // len(shims)
        return Crowd(seconds, [latency for _, latency in sorted(latencies)], weight, processes.name(shims[0]))
    finally:
        for one in ids:
            api.ask("DELETE", f"/containers/{one}?force=1")
        api.close()


def at_rest(engine: Engine) -> list[tuple[str, int, int]]:
    """(name, RSS, PSS) in bytes of each of an engine's processes, a while after the last container ended."""
    time.sleep(SETTLE)
    found = []
    for pid in processes.tree_of(engine.process.pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a job that ended meanwhile
            found.append((processes.name(pid), processes.rss(pid), processes.pss(pid)))
    return found


def floor(program: str, root: str, runs: int, network: bool) -> dict[str, float]:
    """Seconds by phase, medians, of the C program that makes the same kernel calls. Not phases: "known", "total"."""
    options = [] if network else ["-N"]
    done = subprocess.run([program, "-n", str(runs), *options, root, "/bin/true"], check=True, capture_output=True)
    found: dict[str, float] = json.loads(done.stdout)
    return {name: value / 1e6 for name, value in found.items() if name not in ("runs", "hierarchies")}
