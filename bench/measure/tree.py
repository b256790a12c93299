"""A shell that stands in a tree of peers (bench/peers/tree) and times commands there."""

from __future__ import annotations

import subprocess
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]

# Entering the tree takes longer than what is measured: so one bash stays there, forks and execs for each command, and
# writes how many seconds it took and how it ended.
LOOP = """\
while IFS= read -r command; do
    began=$EPOCHREALTIME
    eval "$command" >/dev/null 2>/tmp/$1.err </dev/null; status=$?
    ended=$EPOCHREALTIME
    echo "$(( ${ended/./} - ${began/./} )) $status"
done
"""


def path(release: str) -> Path:
    """The tree's directory; makes the tree when there is none yet."""
    made = subprocess.run([BENCH / "peers" / "tree", release], check=True, capture_output=True, text=True)
    return Path(made.stdout.strip())


# A network namespace of its own: bridges and rules that a peer makes and keeps end with it.
OWN_NETWORK = ("unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")


class TreeShell:
    """Of one release, in a network namespace of its own. `name` tells its error file in /tmp from others'."""

    def __init__(self, release: str, name: str) -> None:
        self.name = name
        self._shell = subprocess.Popen(
            [*OWN_NETWORK, BENCH / "peers" / "tree", release, "bash", "-c", LOOP, "bash", name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )

    def run(self, command: str) -> float:
        """Seconds from fork to exit. Raises with what the command said when it fails."""
        assert self._shell.stdin is not None and self._shell.stdout is not None
        self._shell.stdin.write(command + "\n")
        self._shell.stdin.flush()
        microseconds, status = self._shell.stdout.readline().split()
        if status != "0":
            raise RuntimeError(f"{command}: status {status}: {Path(f'/tmp/{self.name}.err').read_text()[-500:]}")
        return int(microseconds) / 1e6

    def close(self) -> None:
        self._shell.communicate()
        Path(f"/tmp/{self.name}.err").unlink(missing_ok=True)
