"""sampan port."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.failure import CommandFailed


def _join(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def run(invocation: Invocation) -> int:
    name, *wanted = invocation.arguments
    details = invocation.engine.get(f"/containers/{name}/json")
    ports = details["NetworkSettings"].get("Ports") or {}
    if wanted:
        port, _, protocol = wanted[0].partition("/")
        key = f"{port}/{protocol or 'tcp'}"
        if not ports.get(key):
            raise CommandFailed(f"no public port '{key}' published for {name}")
        for binding in ports[key]:
            print(_join(binding["HostIp"], binding["HostPort"]))
        return 0
    for key in sorted(ports, key=lambda text: (int(text.partition("/")[0]), text)):
        for binding in ports[key] or ():
            print(f"{key} -> {_join(binding['HostIp'], binding['HostPort'])}")
    return 0


COMMAND = Command(
    "CONTAINER [PRIVATE_PORT[/PROTO]]", "List port mappings or a specific mapping for the container", run,
    least=1, most=2,
)
