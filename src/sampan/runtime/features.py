"""What this runtime can do, as runtime-spec has it (features.md, features-linux.md): asked from the code's own tables.

It is about the runtime, not about the host, but for what only the host knows: whether libseccomp and jeepney are there
and which flags the kernel takes.
"""

from __future__ import annotations

import sampan
from sampan.errors import Unsupported
from sampan.linux import capability, clone, mempolicy, seccomp, seccomp_compiler
from sampan.oci import runtime as oci
from sampan.runtime import options

OCI_VERSION_MIN = "1.0.0"
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def document() -> dict[str, object]:
    """The features document. Loads libseccomp, asks the kernel which flags it knows; changes nothing."""
    from importlib.util import find_spec  # allowed: only for `features`

    systemd = find_spec("jeepney") is not None  # an extra; without it --systemd-cgroup is refused
    annotations = {"io.github.sampan.version": sampan.__version__}
    filters = _seccomp(annotations)
    return {
        "ociVersionMin": OCI_VERSION_MIN,
        "ociVersionMax": oci.VERSION,
        "hooks": list(HOOKS),
        "mountOptions": options.known(),
        "linux": {
            "namespaces": sorted(clone.NAMESPACES),
            "capabilities": list(capability.NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": systemd, "systemdUser": systemd, "rdma": True},
            "seccomp": filters,
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "memoryPolicy": {"modes": sorted(mempolicy.MODES), "flags": sorted(mempolicy.FLAGS)},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": annotations,
        # of config.json: none is acted upon but systemd's, and those reach the host's service manager
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property."],
    }


def _seccomp(annotations: dict[str, str]) -> dict[str, object]:
    try:
        _, version = seccomp.open_library()
    except Unsupported:  # then a policy is an error
        return {"enabled": False}
    annotations["io.github.seccomp.libseccomp.version"] = version
    return {
        "enabled": True,
        "actions": sorted(seccomp_compiler.ACTIONS),
        "operators": sorted(seccomp_compiler.OPERATORS),
        "archs": sorted(seccomp_compiler.ARCHITECTURES),
        "knownFlags": sorted(seccomp.FLAGS),
        "supportedFlags": sorted(seccomp.supported_flags()),
    }
