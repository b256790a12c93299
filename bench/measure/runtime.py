"""bench/runtime: what one container costs each OCI runtime, cold, in one run. See --help."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import bundle
import processes
import rows
import runtimes
import table
import tree
from rows import Once, Row

CACHE_IMAGES = Path(os.environ["SAMPAN_CACHE"]) / "images"
ROWS = ("run", "seccomp", "steps", "memory")
FLOOR = "floor (C, kernel calls only)"


class Bench:
    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self.options = options
        self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench.", dir="/tmp")))
        shutil.copy(CACHE_IMAGES / "busybox.tar", self.directory)
        self.root = bundle.unpack(self.directory, self.directory / "busybox.tar")
        self.bundle = runtimes.make_bundle(self.directory, self.root)
        self.floor_program = str(self.directory / "floor")
        subprocess.run(["gcc", "-O2", "-o", self.floor_program, tree.BENCH / "floor.c"], check=True)
        self.runtimes = runtimes.find(self.directory)
        self.results: dict[str, object] = {}

    def say(self, lines: list[str]) -> None:
        print("\n".join(lines), "\n", sep="", flush=True)

    def contestants(self, made: Path) -> tuple[dict[str, Once], str]:
        """Each runtime's `run` of a bundle, and which of them is 1.0."""
        found: dict[str, Once] = {
            f"{runtime.name} {runtime.version()}": partial(runtime.run, made) for runtime in self.runtimes
        }
        return found, next((name for name in found if name.startswith(self.options.base)), next(iter(found)))

    def seccomp(self) -> None:
        """With a policy: compiled at each start by the others, once for all by ours."""
        contestants, base = self.contestants(runtimes.with_seccomp(self.bundle))
        row = Row("the same bundle with the seccomp policy that engines give", contestants)
        rows.measure(row, self.options.runs)
        self.results[row.title] = row.samples
        self.say(table.row(row.title, row.samples, base))

    def run(self) -> None:
        contestants, base = self.contestants(self.bundle)
        contestants[FLOOR] = self.floor
        row = Row("run of a bundle with /bin/true, from fork to exit", contestants)
        rows.measure(row, self.options.runs)
        self.results[row.title] = row.samples
        self.say(table.row(row.title, row.samples, base))
        used = {name: runtime.cpu for name, runtime in zip(contestants, self.runtimes, strict=False)}
        self.say(table.row("processor time of the same runs, by the kernel's account", used, base))
        phases = rows.floor(self.floor_program, str(self.root), max(self.options.runs, 20), False)
        whole = phases.pop("total")
        del phases["known"]
        self.say(table.phases(f"where the floor's {1000 * whole:.2f} ms go (child and parent overlap)", phases))

    def floor(self) -> float:
        return rows.floor(self.floor_program, str(self.root), 3, False)["total"]

    def steps(self) -> None:
        """Ours, by its own flight recorder; the others keep none."""
        ours = next((runtime for runtime in self.runtimes if runtime.name == "sampan-runtime"), None)
        if ours is None:
            return
        found = [runtimes.timeline(ours, self.bundle) for _ in range(self.options.runs + 1)][1:]
        self.results["steps"] = found
        for title, number in (("where sampan-runtime's {} go", 0), ("and in create, by the flight recorder: {}", 1)):
            names = found[0][number]
            medians = {name: statistics.median([one[number].get(name, 0.0) for one in found]) for name in names}
            self.say(table.phases(title.format(f"{1000 * sum(medians.values()):.2f} ms"), medians))

    def memory(self) -> None:
        lines = ["the smallest memory limit with which `run` succeeds, and an init stage that waits for `start`"]
        for runtime in self.runtimes:
            limit = runtime.smallest_limit(self.bundle)
            rss, pss = runtime.waiting(self.bundle)
            self.results[f"memory {runtime.name}"] = [limit, rss, pss]
            enough = f"{limit >> 10} KiB" if limit else "none was enough"
            lines.append(
                f"    {runtime.name:<16}{enough:>10}   created: {table.mebibytes(rss)} RSS, {table.mebibytes(pss)} PSS"
            )
        self.say(lines)

    def work(self) -> None:
        for name in self.options.rows:
            getattr(self, name)()
        if self.options.json:
            self.options.json.write_text(json.dumps(self.results, indent=1))


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/runtime", description=__doc__)
    parser.add_argument("-n", "--runs", type=int, default=20, help="measured runs of each contestant (20)")
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(ROWS), help=",".join(ROWS))
    parser.add_argument("--base", default="runc", help="whose time is 1.0 in the ratios (runc)")
    parser.add_argument("--json", type=Path, help="write every sample there")
    options = parser.parse_args()
    with processes.no_remains(runtimes.CGROUP) as stack:
        stack.enter_context(runtimes.without_v2())
        Bench(options, stack).work()
    return 0


if __name__ == "__main__":
    sys.exit(main())
