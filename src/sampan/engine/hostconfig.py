"""Docker's Config and HostConfig as they come in a create request: types checked, defaults filled in."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import msgspec

from sampan.engine import restart
from sampan.errors import InvalidArgument

Texts = list[str]
Strings = dict[str, str]
Int = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class _Device(TypedDict, total=False):
    PathOnHost: str
    PathInContainer: str
    CgroupPermissions: str


class _Rate(TypedDict, total=False):
    Path: str
    Rate: Int


class _Weight(TypedDict, total=False):
    Path: str
    Weight: Int


class _Ulimit(TypedDict, total=False):
    Name: str
    Soft: Int
    Hard: Int


class _LogConfig(TypedDict, total=False):
    Type: str
    Config: Strings | None


class _Binding(TypedDict, total=False):
    HostIp: str
    HostPort: str


class _Mount(TypedDict, total=False):
    Type: str
    Source: str
    Target: str
    ReadOnly: bool
    Consistency: str
    BindOptions: dict[str, Any] | None
    VolumeOptions: dict[str, Any] | None
    TmpfsOptions: dict[str, Any] | None


class HostConfig(TypedDict, total=False):
    """The members that Sampan knows; others are dropped. None is "not said", as in Go."""

    AutoRemove: bool
    Binds: Texts | None
    BlkioDeviceReadBps: list[_Rate] | None
    BlkioDeviceReadIOps: list[_Rate] | None
    BlkioDeviceWriteBps: list[_Rate] | None
    BlkioDeviceWriteIOps: list[_Rate] | None
    BlkioWeight: Int
    BlkioWeightDevice: list[_Weight] | None
    CapAdd: Texts | str | None
    CapDrop: Texts | str | None
    Cgroup: str
    CgroupParent: str
    CgroupnsMode: str
    ConsoleSize: list[Int] | None
    ContainerIDFile: str
    CpuCount: Int
    CpuPercent: Int
    CpuPeriod: Int
    CpuQuota: Int
    CpuRealtimePeriod: Int
    CpuRealtimeRuntime: Int
    CpuShares: Int
    CpusetCpus: str
    CpusetMems: str
    DeviceCgroupRules: Texts | None
    DeviceRequests: list[dict[str, Any]] | None
    Devices: list[_Device] | None
    Dns: Texts | None
    DnsOptions: Texts | None
    DnsSearch: Texts | None
    ExtraHosts: Texts | None
    GroupAdd: Texts | None
    IOMaximumBandwidth: Int
    IOMaximumIOps: Int
    Init: bool | None
    IpcMode: str
    Isolation: str
    Links: Texts | None
    LogConfig: _LogConfig | None
    MaskedPaths: Texts | None
    Memory: Int
    MemoryReservation: Int
    MemorySwap: Int
    MemorySwappiness: Int | None
    Mounts: list[_Mount] | None
    NanoCpus: Int
    NetworkMode: str
    OomKillDisable: bool | None
    OomScoreAdj: Int
    PidMode: str
    PidsLimit: Int | None
    PortBindings: dict[str, list[_Binding] | None] | None
    Privileged: bool
    PublishAllPorts: bool
    ReadonlyPaths: Texts | None
    ReadonlyRootfs: bool
    RestartPolicy: dict[str, Any] | None
    Runtime: str
    SecurityOpt: Texts | None
    ShmSize: Int
    StorageOpt: Strings | None
    Sysctls: Strings | None
    Tmpfs: Strings | None
    TimensMode: str
    UTSMode: str
    Ulimits: list[_Ulimit] | None
    UsernsMode: str
    VolumeDriver: str
    VolumesFrom: Texts | None


class Config(TypedDict, total=False):
    AttachStderr: bool
    AttachStdin: bool
    AttachStdout: bool
    Cmd: Texts | str | None
    Domainname: str
    Entrypoint: Texts | str | None
    Env: Texts | None
    ExposedPorts: dict[str, dict[str, Any] | None] | None
    Healthcheck: dict[str, Any] | None
    Hostname: str
    Image: str
    Labels: Strings | None
    MacAddress: str
    NetworkDisabled: bool
    OnBuild: Texts | None
    OpenStdin: bool
    Shell: Texts | None
    StdinOnce: bool
    StopSignal: str
    StopTimeout: Int | None
    Tty: bool
    User: str
    Volumes: dict[str, dict[str, Any] | None] | None
    WorkingDir: str


SHM_SIZE = 64 << 20
_DEFAULTS: dict[str, Any] = {
    "Binds": None, "ContainerIDFile": "", "NetworkMode": "default", "PortBindings": {}, "AutoRemove": False,
    "VolumeDriver": "", "VolumesFrom": None, "ConsoleSize": [0, 0], "CapAdd": None, "CapDrop": None, "Dns": [],
    "DnsOptions": [], "DnsSearch": [], "ExtraHosts": None, "GroupAdd": None, "IpcMode": "private", "Cgroup": "",
    "Links": None, "OomScoreAdj": 0, "PidMode": "", "Privileged": False, "PublishAllPorts": False,
    "ReadonlyRootfs": False, "SecurityOpt": None, "UTSMode": "", "UsernsMode": "", "ShmSize": SHM_SIZE,
    "Runtime": "", "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "",
    "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [],
    "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": [], "DeviceCgroupRules": None,
    "DeviceRequests": None, "MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": None,
    "OomKillDisable": None, "PidsLimit": None, "Ulimits": [], "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0,
    "IOMaximumBandwidth": 0,
}
"""Docker's defaults, in the order of its inspect. Members without one here appear only when they were given."""

_NOT_YET = ("Links", "DeviceRequests", "StorageOpt")


def host_config(given: Any) -> dict[str, Any]:
    """The HostConfig that is kept and inspected, but for the runtime's name (runtimes.py). Raises InvalidArgument, with
    the member's name.
    """
    said: dict[str, Any] = dict(convert(given if given is not None else {}, HostConfig, "HostConfig"))
    kept: dict[str, Any] = {
        name: value.copy() if isinstance(value, list | dict) else value for name, value in _DEFAULTS.items()
    }
    kept |= {name: value for name, value in said.items() if value is not None}
    for name in ("CapAdd", "CapDrop"):
        if isinstance(kept[name], str):
            kept[name] = [kept[name]]
    kept["IpcMode"] = kept["IpcMode"] or "private"
    kept["ShmSize"] = kept["ShmSize"] or SHM_SIZE
    kept["NetworkMode"] = kept["NetworkMode"] or "default"
    kept["CgroupnsMode"] = kept.get("CgroupnsMode") or "private"
    kept["PidsLimit"] = kept["PidsLimit"] if (kept["PidsLimit"] or 0) > 0 else None
    if kept["Isolation"] not in ("", "default"):
        raise InvalidArgument(f"invalid isolation '{kept['Isolation'][:100]}' on linux")
    for name in _NOT_YET:
        if kept.get(name):
            raise InvalidArgument(f"{name} is not supported yet")
    kept["LogConfig"] = _log_config(kept.get("LogConfig"))
    kept["RestartPolicy"] = restart.check(kept.get("RestartPolicy"), kept["AutoRemove"])
    if kept["Memory"] > 0 and kept["MemorySwap"] == 0:
        kept["MemorySwap"] = 2 * kept["Memory"]  # as dockerd: as much swap again
    return kept


def convert(given: Any, kind: Any, what: str) -> Any:
    """JSON from outside as `kind`. Raises InvalidArgument that says where it is wrong."""
    try:
        return msgspec.convert(_without_nulls(given), kind)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"invalid {what}: {error}".replace("`$", f"`{what}")) from error


_OBJECTS = ("BindOptions", "VolumeOptions", "TmpfsOptions", "LogConfig", "RestartPolicy", "Healthcheck")


def _without_nulls(given: Any) -> Any:
    """null is "not said" for each member of an object, as in Go; in maps, such as Volumes, it stays what it is."""
    if not isinstance(given, dict):
        return given
    said = {name: value for name, value in given.items() if value is not None}
    for name, value in said.items():
        if isinstance(value, list):
            said[name] = [_without_nulls(item) for item in value]
        elif name in _OBJECTS:
            said[name] = _without_nulls(value)
    return said


def _log_config(given: Any) -> dict[str, Any]:
    kind = (given or {}).get("Type") or "json-file"
    options = (given or {}).get("Config") or {}
    if kind not in ("json-file", "local", "none"):
        raise InvalidArgument(f"logger: no log driver named '{kind}' is registered")
    for name, value in options.items():
        if name == "max-size":
            size(value, name)
        elif name == "max-file":
            if not value.isdigit() or not 1 <= int(value) <= 1000:
                raise InvalidArgument(f"invalid value for max-file: {value!r}")
        elif name not in ("labels", "env", "tag", "labels-regex", "env-regex", "mode", "max-buffer-size", "compress"):
            raise InvalidArgument(f"unknown log opt '{name}' for {kind} log driver")
    return {"Type": kind, "Config": options}


_UNITS = {"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}


def size(text: str, what: str) -> int:
    """"10m" in bytes; -1 is no limit. Raises InvalidArgument."""
    if text == "-1":
        return -1
    digits = text.rstrip("bkmgBKMG")
    unit = text[len(digits) :].lower()
    if not digits.isdigit() or len(digits) > 15 or unit not in _UNITS:
        raise InvalidArgument(f"invalid value for {what}: {text!r} is not a size such as 10m")
    return int(digits) * _UNITS[unit]
