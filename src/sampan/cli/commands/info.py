"""sampan info."""

from __future__ import annotations

import sys

from sampan import __version__
from sampan.cli.command import Command, Invocation
from sampan.cli.formats import OBJECT_FORMAT, render_object
from sampan.cli.units import binary_size

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

# What is said only when it is missing: field → warning, Docker's own words.
LACKS = {
    "MemoryLimit": "No memory limit support",
    "SwapLimit": "No swap limit support",
    "CpuCfsQuota": "No cpu cfs quota support",
    "CpuCfsPeriod": "No cpu cfs period support",
    "CPUShares": "No cpu shares support",
    "CPUSet": "No cpuset support",
    "PidsLimit": "No pids limit support",
    "IPv4Forwarding": "IPv4 forwarding is disabled",
}


def info_lines(info: dict[str, Any]) -> list[str]:
    """The Server block, indented."""
    lines = [
        f" Containers: {info['Containers']}",
        f"  Running: {info['ContainersRunning']}",
        f"  Paused: {info['ContainersPaused']}",
        f"  Stopped: {info['ContainersStopped']}",
        f" Images: {info['Images']}",
        f" Server Version: {info['ServerVersion']}",
        f" Storage Driver: {info['Driver']}",
        *(f"  {key}: {value}" for key, value in info.get("DriverStatus") or ()),
        f" Logging Driver: {info.get('LoggingDriver')}",
        f" Cgroup Driver: {info.get('CgroupDriver')}",
        f" Cgroup Version: {info.get('CgroupVersion')}",
    ]
    plugins = info.get("Plugins") or {}
    lines.append(" Plugins:")
    for kind in ("Volume", "Network", "Log"):
        lines.append(f"  {kind}: {' '.join(plugins.get(kind) or ())}")
    swarm = (info.get("Swarm") or {}).get("LocalNodeState")
    if swarm:
        lines.append(f" Swarm: {swarm}")
    if info.get("Runtimes"):
        lines.append(f" Runtimes: {' '.join(sorted(info['Runtimes']))}")
        lines.append(f" Default Runtime: {info.get('DefaultRuntime')}")
    if info.get("InitBinary"):
        lines.append(f" Init Binary: {info['InitBinary']}")
    for key in ("containerd", "runc", "init"):
        commit = info.get({"containerd": "ContainerdCommit", "runc": "RuncCommit", "init": "InitCommit"}[key]) or {}
        if commit.get("ID"):
            lines.append(f" {key} version: {commit['ID']}")
    return lines + _security_lines(info) + _host_lines(info)


def _security_lines(info: dict[str, Any]) -> list[str]:
    lines = [" Security Options:"] if info.get("SecurityOptions") else []
    for option in info.get("SecurityOptions") or ():
        fields = [field.partition("=") for field in option.split(",")]
        name = next((value for key, _, value in fields if key == "name"), option)
        lines.append(f"  {name}")
        lines += [f"   {key.title()}: {value}" for key, _, value in fields if key != "name"]
    return lines


def _host_lines(info: dict[str, Any]) -> list[str]:
    lines = [
        f" Kernel Version: {info.get('KernelVersion')}",
        f" Operating System: {info.get('OperatingSystem')}",
        f" OSType: {info.get('OSType')}",
        f" Architecture: {info.get('Architecture')}",
        f" CPUs: {info.get('NCPU')}",
        f" Total Memory: {binary_size(info.get('MemTotal') or 0)}",
        f" Name: {info.get('Name')}",
        f" ID: {info.get('ID')}",
        f" Docker Root Dir: {info.get('DockerRootDir')}",
        f" Debug Mode: {str(bool(info.get('Debug'))).lower()}",
        *(f" {label}: {info[key]}" for key, label in
          (("HttpProxy", "HTTP Proxy"), ("HttpsProxy", "HTTPS Proxy"), ("NoProxy", "No Proxy")) if info.get(key)),
    ]
    if info.get("Labels"):
        lines += [" Labels:", *(f"  {label}" for label in info["Labels"])]
    lines.append(f" Experimental: {str(bool(info.get('ExperimentalBuild'))).lower()}")
    registries = (info.get("RegistryConfig") or {}).get("InsecureRegistryCIDRs")
    if registries:
        lines += [" Insecure Registries:", *(f"  {cidr}" for cidr in registries)]
    lines.append(f" Live Restore Enabled: {str(bool(info.get('LiveRestoreEnabled'))).lower()}")
    return lines


def warnings(info: dict[str, Any]) -> list[str]:
    """What the engine says itself, else what the fields say is missing."""
    said = info.get("Warnings")
    if said is not None:
        return list(said)
    return [f"WARNING: {text}" for key, text in LACKS.items() if not info.get(key)]


def run(invocation: Invocation) -> int:
    info = invocation.engine.get("/info")
    client = {"Debug": False, "Version": __version__, "Context": "default", "Plugins": [], "Warnings": None}
    form = invocation.values.text("format")
    if form:
        print(render_object(form, {**info, "ClientInfo": client}), end="")
        return 0
    print(f"Client: Sampan\n Version:    {__version__}\n Context:    default\n Debug Mode: false\n\nServer:")
    print("\n".join(info_lines(info)) + "\n", flush=True)
    for warning in warnings(info):
        print(warning, file=sys.stderr)
    return 0


COMMAND = Command("", "Display system-wide information", run, (OBJECT_FORMAT,), most=0)
