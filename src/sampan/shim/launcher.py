"""The launcher: `python -m sampan.shim.launcher FD`. Warm, single-threaded; it forks a shim per container.

All that a shim and the container's init stage will need is imported here, before the first fork.
"""

from __future__ import annotations

import encodings.idna
import encodings.utf_8  # codecs are looked up by name on first use: too late inside a container
import signal

from sampan.jobs import forkserver
from sampan.linux import capability, cgroup, process
from sampan.runtime.ahead import Ahead
from sampan.shim import start
from sampan.shim.rehearsal import rehearse

_WARMED = (encodings.idna, encodings.utf_8, capability)


def main() -> None:
    """Nobody may look into what is forked here until it has become a user's program: non-dumpable is inherited
    (CVE-2016-9962). So is the name; what is set once here is not written again in every shim.
    """
    _default_signals()
    process.set_name("sampan-shim")
    process.prctl(process.PR_SET_DUMPABLE, 0)
    born = not cgroup.detect().without_v2().v2  # on v2 a process is to be born in its cgroup
    ahead = Ahead()
    forkserver.main(start.JOBS, bound=False, spares=2, warm=rehearse, prepare=lambda: start.prepare(born, ahead))


def _default_signals() -> None:
    """A signal that is ignored stays so over execve: `nohup sampan serve &` would have every program in a container
    ignore SIGHUP, SIGINT and SIGQUIT. The two that Python itself ignores are left to the init stage.
    """
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    main()
