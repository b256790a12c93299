"""sampan version: what the command is, and what the engine is."""

from __future__ import annotations

import os
import sys

from sampan import __version__
from sampan.cli.command import Command, Invocation
from sampan.cli.engine import API_VERSION
from sampan.cli.failure import Unreachable
from sampan.cli.formats import OBJECT_FORMAT, render_object

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

LABELS = {
    "ApiVersion": "API version", "GitCommit": "Git commit", "GoVersion": "Go version", "BuildTime": "Built",
    "KernelVersion": "Kernel version", "PythonVersion": "Python version",
}
SHOWN = ("ApiVersion", "GoVersion", "PythonVersion", "GitCommit", "BuildTime", "KernelVersion")


def client_version(invocation: Invocation) -> dict[str, Any]:
    """The Client part, in Docker's words."""
    invocation.engine.negotiate()
    version = invocation.engine.version or API_VERSION
    return {**_client(), "ApiVersion": "{}.{}".format(*version)}


def _client() -> dict[str, Any]:
    host = os.uname()
    return {
        "Version": __version__,
        "ApiVersion": "{}.{}".format(*API_VERSION),
        "DefaultAPIVersion": "{}.{}".format(*API_VERSION),
        "PythonVersion": sys.version.split()[0],
        "Os": "linux",
        "Arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(host.machine, host.machine),
        "Context": "default",
    }


def _api(client: dict[str, Any]) -> str:
    version, default = client["ApiVersion"], client["DefaultAPIVersion"]
    return str(version) if version == default else f"{version} (downgraded from {default})"


def _print_client(client: dict[str, Any]) -> None:
    print("Client: Sampan")
    for label, text in (
        ("Version", client["Version"]), ("API version", _api(client)), ("Python version", client["PythonVersion"]),
        ("OS/Arch", f"{client['Os']}/{client['Arch']}"), ("Context", client["Context"]),
    ):
        print(f" {label + ':':<19}{text}")


def _print_server(server: dict[str, Any]) -> None:
    platform = (server.get("Platform") or {}).get("Name")
    print(f"\nServer:{' ' + platform if platform else ''}")
    components = server.get("Components") or [{"Name": "Engine", "Version": server.get("Version"), "Details": server}]
    for component in components:
        print(f" {component['Name']}:")
        print(f"  {'Version:':<18}{component.get('Version') or ''}")
        details = component.get("Details") or {}
        for key in SHOWN if component["Name"] == "Engine" else sorted(details):
            if key == "ApiVersion" and details.get(key):
                print(f"  {'API version:':<18}{details[key]} (minimum version {details.get('MinAPIVersion')})")
            elif key in details:
                print(f"  {LABELS.get(key, key) + ':':<18}{details[key]}")
        if component["Name"] == "Engine":
            print(f"  {'OS/Arch:':<18}{details.get('Os')}/{details.get('Arch')}")
            print(f"  {'Experimental:':<18}{details.get('Experimental', 'false')}")


def run(invocation: Invocation) -> int:
    form = invocation.values.text("format")
    try:
        client = client_version(invocation)
        server = invocation.engine.get("/version")
    except Unreachable:
        if form:
            print(render_object(form, {"Client": _client(), "Server": None}), end="")
        else:
            _print_client(_client())
        raise
    if form:
        print(render_object(form, {"Client": client, "Server": server}), end="")
    else:
        _print_client(client)
        _print_server(server)
    return 0


COMMAND = Command("", "Show the version of the command and of the engine", run, (OBJECT_FORMAT,), most=0)
