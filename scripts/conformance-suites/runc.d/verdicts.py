"""What became of the tests: a line for each, held against the list of those that do not apply, and a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runc_suite import HERE, Result, Suite

RUNC = Path("/usr/sbin/runc")


@dataclass(frozen=True)
class Entry:
    """A line of the list `not-applicable`. `host`: the reason is the host, so runc must fail here too."""

    file: str
    name: str
    host: bool
    reason: str

    def matches(self, file: str, name: str) -> bool:
        """A `*` at the end of a name is any end."""
        prefix = self.name.removesuffix("*")
        return self.file == file and (name == prefix or (prefix != self.name and name.startswith(prefix)))


def read_list(path: Path = HERE / "not-applicable") -> list[Entry]:
    """`FILE | TEST | sampan or host | REASON`; # begins a comment."""
    entries = []
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            file, name, cause, reason = (part.strip() for part in line.split("|"))
            assert cause in ("sampan", "host"), line
            entries.append(Entry(file, name, cause == "host", reason))
    return entries


class Report:
    """Prints as it is told. `good`: all passed that applies. `listed`: whether the list is asked; it is about ours."""

    def __init__(self, suite: Suite, listed: bool) -> None:
        self.good = True
        self._suite = suite
        self._listed = listed
        self._entries = read_list() if listed else []
        self._counts: Counter[str] = Counter()

    def add(self, file: str, results: Iterable[Result]) -> None:
        """The tests of one file. What fails because of the host is tried with runc when the file is done."""
        failed = []
        for result in results:
            entry = next((entry for entry in self._entries if entry.matches(file, result.name)), None)
            if result.skipped:
                self._tell("skip", file, result.name, result.skipped)
            elif result.passed and entry is not None and not entry.host:
                self._fail(file, result, "it passes, but is listed as not applicable: " + entry.reason)
            elif result.passed:
                self._tell("ok", file, result.name)
            elif entry is not None and not entry.host:
                self._tell("n/a", file, result.name, entry.reason)
            else:
                failed.append((result, entry))
        for result, entry in failed:
            self._judge(file, result, entry)

    def close(self) -> None:
        words = {"ok": "passed", "n/a": "do not apply", "skip": "skipped by the suite", "FAIL": "failed"}
        print(", ".join(f"{self._counts[key]} {word}" for key, word in words.items()))

    def _judge(self, file: str, result: Result, entry: Entry | None) -> None:
        if not self._listed:
            self._fail(file, result, "")
        elif self._passes_with_runc(file, result.name):
            self._fail(file, result, "runc passes here")
        elif entry is not None:
            self._tell("n/a", file, result.name, f"{entry.reason}; runc fails here too")
        else:
            self._fail(file, result, "runc fails here too")

    def _passes_with_runc(self, file: str, name: str) -> bool:
        again = list(self._suite.run(file, RUNC, name))
        return bool(again) and all(result.passed and not result.skipped for result in again)

    def _fail(self, file: str, result: Result, why: str) -> None:
        self.good = False
        self._tell("FAIL", file, result.name, why)
        for line in result.details:
            print(f"      {line.removeprefix('#').rstrip()}", flush=True)

    def _tell(self, word: str, file: str, name: str, why: str = "") -> None:
        self._counts[word] += 1
        print(f"{word:4}  {file}: {name}{f' ({why})' if why else ''}", flush=True)
