"""`sampan doctor`: what this host's kernel has for containers, what is missing, what that means, how to get it.

Everything is tried (in forked children, in namespaces of their own), nothing is guessed from a version number: vendors
port features back, and hosts switch them off.
"""

from __future__ import annotations

from pathlib import Path

from sampan.insight.finding import Finding
from sampan.insight.probes import cgroups, host, kernel, namespaces, network, security, storage


def examine(data_root: Path = Path("/var/lib/sampan")) -> list[Finding]:
    """All findings, in the order in which they are read. Takes about a tenth of a second; needs no engine."""
    return [
        *host.examine(), *kernel.examine(), *namespaces.examine(), *cgroups.examine(), *storage.examine(data_root),
        *network.examine(), *security.examine(),
    ]
