"""The engine's spec as config.json has it: plain OCI, with every member that a runtime may insist on written out."""

from __future__ import annotations

from typing import Any

import msgspec

from sampan.oci import runtime as oci
from sampan.runtime.users import Identity

VERSION = "1.0.2"  # nothing newer is used, and an older runtime need not refuse


def config(spec: oci.Spec, identity: Identity, rootfs: str, namespaces: dict[str, str]) -> dict[str, Any]:
    """config.json. `rootfs` is relative to the bundle; `namespaces`: kind → path of one that comes ready.

    The user is `identity`: what the engine's spec leaves to be looked up in the container has been looked up.
    """
    found: dict[str, Any] = msgspec.to_builtins(spec)
    assert spec.process is not None and spec.linux is not None
    readonly = spec.root is not None and spec.root.readonly
    found |= {"ociVersion": VERSION, "root": {"path": rootfs, "readonly": readonly}}
    found["process"] = process(spec.process, identity)
    found["mounts"] = [{"type": "bind", **mount} if _is_bind(mount) else mount for mount in found.get("mounts", [])]
    linux = found["linux"]
    linux["namespaces"] = [
        {"type": entry.type, **({"path": path} if (path := namespaces.get(entry.type) or entry.path) else {})}
        for entry in spec.linux.namespaces
    ]
    linux["cgroupsPath"] = "/" + spec.linux.cgroups_path.strip("/")  # a relative one is each runtime's own affair
    if spec.linux.resources is not None:
        linux["resources"] = resources(spec.linux.resources)
    return found


def resources(given: oci.Resources) -> dict[str, Any]:
    """The limits, for config.json and for `update --resources`."""
    found: dict[str, Any] = msgspec.to_builtins(given)
    if given.devices:
        found["devices"] = [
            {"type": rule.type, "access": rule.access, **msgspec.to_builtins(rule)} for rule in given.devices
        ]
    return found


def process(given: oci.Process, identity: Identity) -> dict[str, Any]:
    """The process of config.json, and of `exec --process`. HOME is the user's, if nothing else was said."""
    found: dict[str, Any] = msgspec.to_builtins(given)
    user: dict[str, Any] = {"uid": identity.uid, "gid": identity.gid, "additionalGids": list(identity.groups)}
    if given.user.umask is not None:
        user["umask"] = given.user.umask
    env = list(given.env)
    if not any(entry.startswith("HOME=") and entry != "HOME=" for entry in env):
        env = [entry for entry in env if not entry.startswith("HOME=")] + [f"HOME={identity.home}"]
    found |= {"terminal": given.terminal, "user": user, "env": env, "cwd": given.cwd or "/", "args": given.args}
    return found


def _is_bind(mount: dict[str, Any]) -> bool:
    return not mount.get("type") and any(option in ("bind", "rbind") for option in mount.get("options", []))
