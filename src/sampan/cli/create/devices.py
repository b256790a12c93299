"""--device, --device-cgroup-rule, the block device limits, --gpus."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sampan.cli.create.mounts import split_csv
from sampan.cli.failure import CommandFailed
from sampan.cli.units import parse_bytes

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

CGROUP_RULE = re.compile(r"[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}", re.ASCII)
CDI_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*/[A-Za-z][A-Za-z0-9_-]*=[A-Za-z0-9][A-Za-z0-9_.:-]*", re.ASCII)


def _is_mode(text: str) -> bool:
    return bool(text) and set(text) <= set("rwm") and len(set(text)) == len(text)


def check_device(text: str) -> str:
    """HOST[:CONTAINER][:rwm], or a CDI name (vendor/class=device). Raises ValueError."""
    if CDI_NAME.fullmatch(text):
        return text
    parts = text.split(":")
    if len(parts) > 3 or not parts[0].startswith("/"):
        raise ValueError(f"bad format for path: {text}")
    if len(parts) == 3 and not _is_mode(parts[2]):
        raise ValueError(f"bad mode specified: {parts[2]}")
    if len(parts) > 1 and not parts[1].startswith("/") and not (len(parts) == 2 and _is_mode(parts[1])):
        raise ValueError(f"{parts[1]} is not an absolute path")
    return text


def devices(texts: Sequence[str]) -> list[dict[str, str]]:
    """HostConfig.Devices."""
    result = []
    for text in texts:
        if CDI_NAME.fullmatch(text):
            continue
        host, *rest = text.split(":")
        inside, mode = host, "rwm"
        if len(rest) == 2:
            inside, mode = rest
        elif rest:
            inside, mode = (host, rest[0]) if _is_mode(rest[0]) else (rest[0], "rwm")
        result.append({"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": mode})
    return result


def device_requests(texts: Sequence[str], gpus: str) -> list[dict[str, Any]] | None:
    """HostConfig.DeviceRequests: --gpus, then CDI names of --device. Raises CommandFailed."""
    requests = [_gpus(gpus)] if gpus else []
    names = [text for text in texts if CDI_NAME.fullmatch(text)]
    if names:
        requests.append(
            {"Driver": "cdi", "Count": 0, "DeviceIDs": names, "Capabilities": None, "Options": None}
        )
    return requests or None


def _gpus(text: str) -> dict[str, Any]:
    request: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
    try:
        fields = split_csv(text)
    except ValueError as error:
        raise CommandFailed(f"invalid --gpus: {error}", 125) from None
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals:
            key, value = "count", key
        if key == "count":
            if value != "all" and not value.isdigit():
                raise CommandFailed(f"invalid --gpus: count must be an integer or all, not {value}", 125)
            request["Count"] = -1 if value == "all" else int(value)
        elif key == "device":
            request["DeviceIDs"] = value.split(",")
        elif key == "driver":
            request["Driver"] = value
        elif key == "capabilities":
            request["Capabilities"] = [[*value.split(","), "gpu"]]
        elif key == "options":
            request["Options"] = dict(pair.partition("=")[::2] for pair in value.split(","))
        else:
            raise CommandFailed(f"invalid --gpus: unexpected key '{key}' in '{field}'", 125)
    if request["DeviceIDs"] is None and request["Count"] == 0:
        request["Count"] = 1
    return request


def check_cgroup_rule(text: str) -> str:
    """`c 1:3 rwm`. Raises ValueError."""
    if not CGROUP_RULE.fullmatch(text):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text


def _device_and_value(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon or not path:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, value


def check_weight(text: str) -> object:
    """`/dev/sda:200` as a WeightDevice. Raises ValueError."""
    path, value = _device_and_value(text)
    if not value.isdigit() or not (int(value) == 0 or 10 <= int(value) <= 1000):
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(value)}


def check_throttle(text: str) -> object:
    """`/dev/sda:1mb` as a ThrottleDevice, bytes a second. Raises ValueError."""
    path, value = _device_and_value(text)
    try:
        rate = parse_bytes(value)
    except ValueError:
        rate = -1
    if rate < 0:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a "
            "positive integer. Unit is optional and can be kb, mb, or gb"
        )
    return {"Path": path, "Rate": rate}


def check_rate(text: str) -> object:
    """`/dev/sda:100` as a ThrottleDevice, operations a second. Raises ValueError."""
    path, value = _device_and_value(text)
    if not value.isdigit():
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive "
            "integer"
        )
    return {"Path": path, "Rate": int(value)}
