"""The launcher: `python -m sampan.shim.launcher FD`. Warm, single-threaded; it forks a shim per container.

All that a shim and the container's init stage will need is imported here, before the first fork.
"""

from __future__ import annotations

import encodings.idna
import encodings.utf_8  # codecs are looked up by name on first use: too late inside a container

from sampan.jobs import forkserver
from sampan.linux import capability
from sampan.shim import start, warm

JOBS: dict[str, forkserver.Job] = {"shim": start.run}

_WARMED = (encodings.idna, encodings.utf_8, capability)


def main() -> None:
    forkserver.main(JOBS, bound=False, spares=2, warm=warm.warm, prepare=start.prepare)


if __name__ == "__main__":
    main()
