"""Run runc's integration tests in a host of their own: see scripts/conformance-suites/runc."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
sys.path.append(str(CHECKOUT / "tests"))

from runc_suite import PATIENCE, Suite  # noqa: E402
from verdicts import Report  # noqa: E402

import leaks  # noqa: E402
import sandbox  # noqa: E402

OURS = CHECKOUT / ".venv/bin/sampan-runtime"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/conformance runc", allow_abbrev=False)
    parser.add_argument("--runtime", type=Path, default=OURS, help="another one: the list of exceptions is not for it")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds for the tests of one file")
    parser.add_argument("--user", type=int, default=0, help="run as this uid and gid, rootless")
    parser.add_argument("--systemd", action="store_true", help="with the systemd cgroup driver")
    parser.add_argument("source", type=Path)
    parser.add_argument("files", nargs="*", metavar="FILE.bats")
    options = parser.parse_intermixed_args()
    if sandbox.wanted():
        sandbox.enter(keep=[options.source, CHECKOUT])
    watch = leaks.Watch()
    with Suite(options.source, options.runtime.absolute(), options.patience, options.user, options.systemd) as suite:
        report = Report(suite, listed=options.runtime == OURS)
        for file in suite.files(options.files):
            report.add(file, suite.run(file))
    report.close()
    if left := watch.left():
        print(f"left behind\n{leaks.describe(left)}")
    return 1 if left or not report.good else 0


if __name__ == "__main__":
    sys.exit(main())
