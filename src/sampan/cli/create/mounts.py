"""--mount, --volume, --tmpfs."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sampan.cli.units import parse_bytes

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

TRUE_WORDS = frozenset(("1", "t", "T", "TRUE", "true", "True"))
FALSE_WORDS = frozenset(("0", "f", "F", "FALSE", "false", "False"))
PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
OWN_KEYS = {
    "bind": ("bind-propagation", "bind-nonrecursive", "bind-recursive"),
    "volume": ("volume-nocopy", "volume-label", "volume-driver", "volume-opt", "volume-subpath"),
    "tmpfs": ("tmpfs-size", "tmpfs-mode"),
    "image": ("image-subpath",),
}


def split_csv(text: str) -> list[str]:
    """The fields of one CSV line, quotes as RFC 4180. Raises ValueError."""
    fields, field, quoted, position = [], "", False, 0
    while position < len(text):
        character = text[position]
        if quoted:
            if character != '"':
                field += character
            elif text[position + 1 : position + 2] == '"':
                field += '"'
                position += 1
            else:
                quoted = False
        elif character == '"' and not field:
            quoted = True
        elif character == '"':
            raise ValueError(f'bare " in field: {text}')
        elif character == ",":
            fields.append(field)
            field = ""
        else:
            field += character
        position += 1
    if quoted:
        raise ValueError(f'missing closing ": {text}')
    return [*fields, field]


def _truth(key: str, value: str) -> bool:
    if value in TRUE_WORDS or value in FALSE_WORDS:
        return value in TRUE_WORDS
    raise ValueError(f"invalid value for {key}: {value}")


def parse_mount(text: str) -> dict[str, Any]:
    """One --mount as the API's Mount. Raises ValueError."""
    mount: dict[str, Any] = {"Type": "volume"}
    for field in split_csv(text.strip()):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals:
            if key in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive"):
                value = "true"
            else:
                raise ValueError(f"invalid field '{field}' must be a key=value pair")
        _set(mount, key, value)
    if not mount["Type"]:
        raise ValueError("type is required")
    if not mount.get("Target"):
        raise ValueError("target is required")
    _check_keys(mount)
    if "VolumeOptions" in mount:
        mount["VolumeOptions"].setdefault("DriverConfig", {})
    order = ("Type", "Source", "Target", "ReadOnly", "BindOptions", "VolumeOptions", "ImageOptions", "TmpfsOptions")
    return {key: mount[key] for key in order if key in mount}


def _set(mount: dict[str, Any], key: str, value: str) -> None:
    if key == "type":
        mount["Type"] = value.lower()
    elif key in ("source", "src"):
        mount["Source"] = os.path.abspath(value) if value.startswith(("./", "../")) or value in (".", "..") else value
    elif key in ("target", "dst", "destination"):
        mount["Target"] = value
    elif key in ("readonly", "ro"):
        if _truth(key, value):
            mount["ReadOnly"] = True
    elif key == "consistency":
        mount["Consistency"] = value.lower()
    elif any(key in keys for keys in OWN_KEYS.values()):
        mount.setdefault("_keys", []).append(key)
        _set_own(mount, key, value)
    else:
        raise ValueError(f"unexpected key '{key}' in '{key}={value}'")


def _set_own(mount: dict[str, Any], key: str, value: str) -> None:
    kind, _, name = key.partition("-")
    options: dict[str, Any] = mount.setdefault(f"{kind.title()}Options", {})
    if key == "bind-propagation":
        if value.lower() not in PROPAGATIONS:
            raise ValueError(f"invalid propagation {value}: one of {', '.join(PROPAGATIONS)}")
        options["Propagation"] = value.lower()
    elif key == "bind-nonrecursive":
        options["NonRecursive"] = _truth(key, value)
    elif key == "bind-recursive":
        _set_recursive(options, value)
    elif key == "volume-nocopy":
        options["NoCopy"] = _truth(key, value)
    elif key in ("volume-label", "volume-opt"):
        label, _, text = value.partition("=")
        held = options if key == "volume-label" else options.setdefault("DriverConfig", {})
        held.setdefault("Labels" if key == "volume-label" else "Options", {})[label] = text
    elif key == "volume-driver":
        options.setdefault("DriverConfig", {})["Name"] = value
    elif name == "subpath":
        options["Subpath"] = value
    elif key == "tmpfs-size":
        options["SizeBytes"] = parse_bytes(value)
    else:
        try:
            options["Mode"] = int(value, 8)
        except ValueError:
            raise ValueError(f"invalid value for {key}: {value}") from None


def _set_recursive(options: dict[str, Any], value: str) -> None:
    if value == "disabled":
        options["NonRecursive"] = True
    elif value == "writable":
        options["ReadOnlyNonRecursive"] = True
    elif value == "readonly":
        options["ReadOnlyForceRecursive"] = True
    elif value != "enabled":
        raise ValueError('invalid value for bind-recursive: must be "enabled", "disabled", "writable", or "readonly"')


def _check_keys(mount: dict[str, Any]) -> None:
    for key in mount.get("_keys", ()):
        if key not in OWN_KEYS.get(mount["Type"], ()):
            kind = key.partition("-")[0]
            raise ValueError(f"cannot mix '{kind}-*' options with mount type '{mount['Type']}'")


def split_volume(text: str) -> list[str]:
    """`source:target:mode` at its colons."""
    return text.split(":")


def volumes_and_binds(texts: Sequence[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """-v: anonymous volumes (a path alone) and binds. A source that starts with a dot is relative to where we are."""
    volumes: dict[str, dict[str, str]] = {}
    binds: list[str] = []
    for text in texts:
        source, colon, rest = text.partition(":")
        if not colon:
            volumes[text] = {}
        elif source.startswith("."):
            binds.append(f"{os.path.abspath(source)}:{rest}")
        else:
            binds.append(text)
    return volumes, binds


def tmpfs(texts: Sequence[str]) -> dict[str, str]:
    """--tmpfs PATH[:options]."""
    return {path: options for path, _, options in (text.partition(":") for text in texts)}
