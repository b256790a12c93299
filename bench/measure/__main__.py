"""bench/start: how fast a container starts, here and with the peers, in one run. See --help."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import bundle
import engines
import processes
import rows
import table
import tree
from engines import Engine
from launcher import LESSONS, Launcher
from rows import Once, Row

CACHE_IMAGES = Path(os.environ["SAMPAN_CACHE"]) / "images"
DOCKERD = {"bookworm": "20.10", "trixie": "26.1"}
PODMAN = {"bookworm": "4.3", "trixie": "5.4"}
ROWS = ("start", "bare", "api", "launcher", "exec", "crowd", "memory", "engine")
FLOOR = "floor (C, kernel calls only)"


class Bench:
    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self.options = options
        self.stack = stack
        self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench.", dir="/tmp")))
        self.tar = self.directory / "busybox.tar"  # in /tmp: the trees see it, too
        shutil.copy(CACHE_IMAGES / "busybox.tar", self.tar)
        self.root = bundle.unpack(self.directory, self.tar)
        self.floor_program = str(self.directory / "floor")
        subprocess.run(["gcc", "-O2", "-o", self.floor_program, tree.BENCH / "floor.c"], check=True)
        self.engines: list[Engine] = []
        self.results: dict[str, object] = {}

    def begin(self) -> None:
        starts: list[Callable[[int], Engine]] = []
        if not self.options.without_sampan:
            starts.append(engines.start_sampan)
        starts += [partial(engines.start_dockerd, release, DOCKERD[release]) for release in self.options.peers]
        for number, start in enumerate(starts):
            engine = start(number)
            self.stack.callback(engine.stop)
            engine.api().import_image(str(self.tar), "busybox")
            self.engines.append(engine)

    def say(self, lines: list[str]) -> None:
        print("\n".join(lines), "\n", sep="", flush=True)

    def measure(self, title: str, contestants: dict[str, Once], base: str) -> None:
        row = Row(title, contestants)
        rows.measure(row, self.options.runs)
        self.results[title] = row.samples
        self.say(table.row(title, row.samples, base))

    def shell(self, release: str) -> tree.TreeShell:
        shell = tree.TreeShell(release, f"bench-{release}-{self.directory.name[6:]}")
        self.stack.callback(shell.close)
        return shell

    def start(self, network: str) -> None:
        arguments = ("run", "--rm", "--network", network, "busybox", "true")
        contestants: dict[str, Once] = {}
        for engine in self.engines:
            contestants[engine.name] = partial(engine.client, "docker", *arguments)
            if engine.name == "sampan":
                contestants["sampan, its own command"] = partial(engine.client, engines.SAMPAN, *arguments)
        contestants |= self.client_alone()
        for release in self.options.peers:
            contestants |= self.podman(release, network)
            if network == "none":
                contestants |= self.runtimes(release)
        where = "on the bridge" if network == "bridge" else "without network"
        self.measure(f"docker run --rm busybox true, {where}", contestants, "sampan")

    def podman(self, release: str, network: str) -> dict[str, Once]:
        """Its state in our directory. Ulimits low: it would raise them, which not every root may."""
        limits = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024"
        shell = self.shell(release)
        place = f"{self.directory}/podman-{release}-{network}"
        options = f"--root {place}/root --runroot {place}/run --tmpdir {place}/tmp --cgroup-manager cgroupfs"
        shell.run(f"podman {options} import {self.tar} localhost/busybox")
        where = f"--cgroup-parent /{engines.CGROUP} --network {network}"
        command = f"podman {options} run --rm {limits} {where} localhost/busybox true"
        return {f"podman {PODMAN[release]}": lambda: shell.run(command)}

    def runtimes(self, release: str) -> dict[str, Once]:
        shell = self.shell(release)
        place = self.directory / f"runtimes-{release}"
        place.mkdir()
        made = bundle.make(place, self.root, shell)
        version = {"bookworm": {"runc": "1.1.5", "crun": "1.8"}, "trixie": {"runc": "1.1.15", "crun": "1.21"}}[release]
        return {
            f"{name} {version[name]} alone": partial(shell.run, f"{name} run -b {made} bench-{name}-$$")
            for name in ("runc", "crun")
        }

    def client_alone(self) -> dict[str, Once]:
        if not self.engines:
            return {}
        return {"docker version (client alone)": partial(self.engines[0].client, "docker", "version")}

    def api(self) -> None:
        for network in ("bridge", "none"):
            phases = rows.floor(self.floor_program, str(self.root), max(self.options.runs, 20), network == "bridge")
            cycles = {engine.name: rows.Cycle(engine, network) for engine in self.engines}
            contestants: dict[str, Once] = dict(cycles)
            contestants[FLOOR] = self.floor(network == "bridge")
            self.measure(f"create, start, wait, remove over the API, network {network}", contestants, FLOOR)
            whole = phases.pop("total")
            del phases["known"]
            self.say(table.phases(f"where the floor's {1000 * whole:.2f} ms go (child and parent overlap)", phases))
            if "sampan" in cycles:
                self.own_time(cycles["sampan"])

    def own_time(self, cycle: rows.Cycle) -> None:
        calls = {name: statistics.median(samples) for name, samples in cycle.calls.items()}
        self.say(table.phases("where sampan's go: the calls", calls))
        recorded = [cycle.start_steps() for _ in range(self.options.runs)]
        steps = {name: [record.get(name, 0.0) for record in recorded] for name in recorded[0]}
        if steps:
            medians = {name: statistics.median(samples) for name, samples in steps.items()}
            self.say(table.phases("and in the start, from the flight recorder", medians))
        self.results["sampan's calls and steps"] = [cycle.calls, steps]

    def floor(self, network: bool) -> Once:
        return lambda: rows.floor(self.floor_program, str(self.root), 3, network)["total"]

    def launcher(self) -> None:
        """Both figures of each start are taken from one run: see launcher.py."""
        warm = Launcher(self.directory / "launcher", self.root, engines.CGROUP)
        self.stack.callback(warm.close)
        name = "sampan's launcher"
        known: dict[str, list[float]] = {name: [], FLOOR: []}
        clean: dict[str, list[float]] = {name: [], FLOOR: []}
        for _ in range(LESSONS):
            warm.once()
        warm.steps.clear()
        for _ in range(self.options.runs):
            until_known, whole = warm.once()
            floor = rows.floor(self.floor_program, str(self.root), 3, False)
            for samples, ours, floors in ((known, until_known, floor["known"]), (clean, whole, floor["total"])):
                samples[name].append(ours)
                samples[FLOOR].append(floors)
        for title, samples in (
            ("from the engine's launcher: one start of busybox true, until its exit status is known", known),
            ("and with its directories, and all of it removed", clean),
        ):
            self.results[title] = samples
            self.say(table.row(title, samples, FLOOR))
        names = warm.steps[0]
        medians = {step: statistics.median([one.get(step, 0.0) for one in warm.steps]) for step in names}
        self.say(table.phases("its start, from the flight recorder", medians))

    def exec(self) -> None:
        by_client: dict[str, Once] = {}
        by_api: dict[str, Once] = {}
        name = "bench-exec"
        for engine in self.engines:
            engine.client("docker", "run", "-d", "--name", name, "busybox", "sleep", "1000000")
            self.stack.callback(engine.client, "docker", "rm", "-f", name)
            by_client[engine.name] = partial(engine.client, "docker", "exec", name, "true")
            by_api[engine.name] = rows.exec_over_api(engine, name)
        by_client |= self.client_alone()
        self.measure("docker exec C true", by_client, "sampan")
        self.measure("exec over the API", by_api, "sampan")

    def crowd(self) -> None:
        lines = [f"{self.options.crowd} containers on the bridge, started by 8 clients over the API"]
        for engine in self.engines:
            found = rows.crowd(engine, self.options.crowd, 8)
            self.results[f"crowd {engine.name}"] = found.latencies
            lines.append(
                f"    {engine.name:<14}{found.per_second:7.1f} a second; one takes {1000 * found.quarter(0):.0f} ms "
                f"in the first quarter, {1000 * found.quarter(3):.0f} ms in the last; "
                f"{found.shim}: {table.mebibytes(found.shim_pss)} PSS each"
            )
        self.say(lines)

    def memory(self) -> None:
        lines = ["engine at rest, all its processes"]
        for engine in self.engines:
            weights = rows.at_rest(engine)
            self.results[f"at rest {engine.name}"] = weights
            each = ", ".join(f"{name} {table.mebibytes(rss)}" for name, rss, _ in weights)
            lines.append(f"    {engine.name:<14}{table.mebibytes(sum(pss for _, _, pss in weights))} PSS; RSS: {each}")
        self.say(lines)

    def engine(self) -> None:
        lines = ["engine, from start to first answer"]
        for engine in self.engines:
            self.results[f"first answer {engine.name}"] = engine.to_first_answer
            lines.append(f"    {engine.name:<14}{1000 * engine.to_first_answer:.0f} ms")
        self.say(lines)

    def run(self) -> None:
        if set(self.options.rows) - {"launcher"}:
            self.begin()
        for name in self.options.rows:
            if name in ("start", "bare"):
                self.start("bridge" if name == "start" else "none")
            else:
                getattr(self, name)()
        if self.options.json:
            self.options.json.write_text(json.dumps(self.results, indent=1))


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/start", description=__doc__)
    parser.add_argument("-n", "--runs", type=int, default=12, help="measured runs of each contestant (12)")
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(ROWS), help=",".join(ROWS))
    parser.add_argument("--peers", type=lambda text: [word for word in text.split(",") if word], default=["bookworm"],
                        help="Debian releases whose engines take part: bookworm,trixie; empty: none (bookworm)")
    parser.add_argument("--crowd", type=int, default=100, help="containers started at once by 8 clients (100)")
    parser.add_argument("--without-sampan", action="store_true", help="the peers and the floor alone")
    parser.add_argument("--json", type=Path, help="write every sample there")
    options = parser.parse_args()
    with processes.no_remains(engines.CGROUP) as stack:
        Bench(options, stack).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
