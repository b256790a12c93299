"""Docker's Config and HostConfig → an OCI runtime spec.

`config` is a container's Config merged with its image's; `host_config` a HostConfig; both plain dicts of the Docker
API. Nothing here touches the container: it computes, and looks at the host only for device numbers.

    check      at creation: everything that can be wrong, and warnings for what this host lacks
    make       at start: the spec, the seccomp policy to compile (linux.seccomp_cache.Cache), warnings
    make_exec  the same for one more process
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sampan.engine.spec import (
    capabilities,
    devices,
    mounts,
    namespaces,
    process,
    resources,
    security,
    sysctls,
)
from sampan.engine.spec.facts import Facts
from sampan.errors import InvalidArgument
from sampan.oci.runtime import IDMapping, Linux, Process, Root, Seccomp, Spec

__all__ = ["Facts", "Made", "MadeExec", "check", "make", "make_exec"]


@dataclass(frozen=True)
class Made:
    """`policy` is not in `spec.linux.seccomp`: the shim takes it compiled, and the spec travels at every start."""

    spec: Spec
    policy: Seccomp | None
    warnings: list[str]


@dataclass(frozen=True)
class MadeExec:
    process: Process
    policy: Seccomp | None


def check(
    config: Mapping[str, Any], host_config: Mapping[str, Any], facts: Facts, points: Iterable[mounts.Point] = ()
) -> list[str]:
    """Find what is wrong with a request that `make` would find at the start. Returns warnings, in Docker's words.

    Bind sources and devices may still come and go until then. Raises InvalidArgument, Unsupported.
    """
    options = security.parse(host_config.get("SecurityOpt") or (), facts)
    held = capabilities.names(host_config, facts.capabilities)
    security.seccomp_policy(options, held, bool(host_config.get("Privileged")), facts)
    namespaces.make(host_config, {})
    sysctls.checked(host_config.get("Sysctls") or {}, namespaces.own(host_config))
    process.make(config, host_config, held, options.no_new_privileges)
    mounts.make(host_config, points, {})
    for text in host_config.get("DeviceCgroupRules") or ():
        devices.parse_rule(text)
    return [*resources.warnings(host_config, facts.features), *options.warnings]


def make(
    config: Mapping[str, Any], host_config: Mapping[str, Any], facts: Facts, *, cgroups_path: str,
    points: Iterable[mounts.Point] = (), files: Mapping[str, str] | None = None,
    joined: Mapping[str, str] | None = None,
) -> Made:
    """The spec of a start.

    `points`: what is mounted from outside, sources resolved. `files`: destination → source of generated files.
    `joined`: namespace kind (pid, ipc, network) → path of the one of another container. Raises InvalidArgument,
    Unsupported.
    """
    options = security.parse(host_config.get("SecurityOpt") or (), facts)
    privileged = bool(host_config.get("Privileged"))
    held = capabilities.names(host_config, facts.capabilities)
    nodes, access = devices.make(host_config)
    limits = resources.make(host_config)
    limits.devices = devices.rules(host_config, nodes, access)
    own = namespaces.own(host_config)
    uts = "uts" in own
    linux = Linux(
        namespaces=namespaces.make(host_config, joined or {}), devices=nodes, cgroups_path=cgroups_path,
        resources=limits, sysctl=sysctls.checked(host_config.get("Sysctls") or {}, own),
        masked_paths=security.masked_paths(host_config, facts), readonly_paths=security.readonly_paths(host_config),
    )
    points = list(points)
    if any(point.propagation.endswith(("shared", "slave")) for point in points):
        linux.rootfs_propagation = _root_propagation(points)
    if "user" in own:
        linux.uid_mappings, linux.gid_mappings = _id_mappings(facts), _id_mappings(facts)
    spec = Spec(
        process=process.make(config, host_config, held, options.no_new_privileges),
        root=Root(path="/", readonly=bool(host_config.get("ReadonlyRootfs"))),
        hostname=str(config.get("Hostname") or "") if uts else "",
        domainname=str(config.get("Domainname") or "") if uts else "",
        mounts=mounts.make(host_config, points, files or {}, options.writable_cgroups), linux=linux,
    )
    policy = security.seccomp_policy(options, held, privileged, facts)
    return Made(spec, policy, options.warnings)


def _root_propagation(points: Iterable[mounts.Point]) -> str:
    """A shared mount inside needs a root that passes events on; a slave one, a root that takes them."""
    shared = any(point.propagation.endswith("shared") for point in points)
    return "rshared" if shared else "rslave"


def _id_mappings(facts: Facts) -> list[IDMapping]:
    first, size = facts.id_range
    return [IDMapping(container_id=0, host_id=first, size=size)]


def make_exec(
    config: Mapping[str, Any], host_config: Mapping[str, Any], wanted: Mapping[str, Any], facts: Facts,
    size: tuple[int, int] | None = None,
) -> MadeExec:
    """One more process in a running container; `wanted` is Docker's ExecConfig, `size` rows and columns.

    Privileged execs have every capability and no seccomp policy. Raises InvalidArgument.
    """
    if not wanted.get("Cmd"):
        raise InvalidArgument("No exec command specified")
    options = security.parse(host_config.get("SecurityOpt") or (), facts)
    privileged = bool(wanted.get("Privileged") or host_config.get("Privileged"))
    held = list(facts.capabilities) if privileged else capabilities.names(host_config, facts.capabilities)
    made = process.make_exec(config, host_config, wanted, held, options.no_new_privileges, size)
    return MadeExec(made, security.seccomp_policy(options, held, privileged, facts))
