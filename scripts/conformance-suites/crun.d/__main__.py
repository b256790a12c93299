"""Run crun's tests in a host of their own: see scripts/conformance-suites/crun."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests")]

from suite import Listed, Suite, listed, through_adapter  # noqa: E402

import leaks  # noqa: E402
import sandbox  # noqa: E402
from peers import runtimes  # noqa: E402

OURS = CHECKOUT / ".venv/bin/sampan-runtime"
CRUN = "crun"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/conformance crun", allow_abbrev=False)
    parser.add_argument("--runtime", default=str(OURS), help="one with runc's command line, or crun")
    parser.add_argument("source", type=Path)
    parser.add_argument("tests", nargs="*", metavar="TEST")
    options = parser.parse_intermixed_args()
    if sandbox.wanted():
        sandbox.enter(keep=[options.source, CHECKOUT])
    is_crun = options.runtime == CRUN
    command = crun() if is_crun else through_adapter(Path(options.runtime).resolve())
    watch = leaks.Watch()
    with Suite(options.source) as suite:
        chosen = choose(suite, options.tests)
        counts = Counter(one(suite, name, command, {} if is_crun else listed(options.source)) for name in chosen)
    print(f"{len(chosen)} tests: " + ", ".join(f"{number} {word}" for word, number in counts.items()))
    if left := watch.left():
        print(f"left behind\n{leaks.describe(left)}")
    return 1 if left or counts["failed"] else 0


def crun() -> Sequence[str]:
    return runtimes.runtime(CRUN, Path("/nonexistent")).command


def choose(suite: Suite, words: Sequence[str]) -> list[str]:
    """The tests that are named, by themselves or by their file; all if none are. SystemExit for an unknown one."""
    chosen = [name for name, file in suite.tests.items() if not words or name in words or file in words]
    if unknown := set(words) - set(chosen) - set(suite.tests.values()):
        raise SystemExit(f"conformance: crun's suite has no {', '.join(sorted(unknown))}")
    return chosen


def one(suite: Suite, name: str, command: Sequence[str], exempt: dict[str, Listed]) -> str:
    """Run a test, print a line, and with a failure what it said. Returns the word to count it by."""
    entry = exempt.get(name)
    if entry and entry.how == "slow":
        entry = None
    if entry and entry.how == "unrun":
        return say("listed", name, entry.why)
    result = suite.run(name, command)
    if result.skipped:
        return say("skipped", name, "by the suite: not for this host")
    if entry:
        if not result.passed:
            return say("listed", name, entry.why)
        return say("failed", name, "passes, though it is listed as one that does not")
    if result.passed:
        return say("passed", name)
    if command != crun() and not suite.run(name, crun()).passed:
        return say("host", name, "crun fails here too")
    say("failed", name)
    print(*(f"    {line}" for line in result.output.splitlines()[-20:]), sep="\n")
    return "failed"


def say(word: str, name: str, why: str = "") -> str:
    print(f"{word:8}{name}{f': {why}' if why else ''}", flush=True)
    return word


if __name__ == "__main__":
    sys.exit(main())
