"""The default policy by capability and machine, and profiles in Docker's format."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine.spec.seccomp import default_policy, parse_profile
from sampan.errors import InvalidArgument
from sampan.oci.runtime import Seccomp

NONE: frozenset[str] = frozenset()


def allowed(policy: Seccomp) -> set[str]:
    """Names allowed without conditions."""
    return {
        name for rule in policy.syscalls if rule.action == "SCMP_ACT_ALLOW" and not rule.args for name in rule.names
    }


def policy(*capabilities: str, machine: str = "x86_64", kernel: tuple[int, int] = (6, 1)) -> Seccomp:
    return default_policy(frozenset(capabilities), machine, kernel)


def test_what_the_default_never_allows() -> None:
    assert not allowed(policy()) & {
        "mount", "umount2", "pivot_root", "bpf", "keyctl", "add_key", "request_key", "kexec_load", "init_module",
        "clone", "clone3", "unshare", "setns", "userfaultfd", "io_uring_setup", "swapon", "reboot", "chroot",
        "socket", "personality", "open_by_handle_at", "perf_event_open", "quotactl", "acct", "vhangup",
    }
    assert {"execve", "openat2", "futex", "clock_gettime", "ptrace", "landlock_restrict_self"} <= allowed(policy())
    assert "ptrace" not in allowed(policy(kernel=(4, 7)))


def test_capabilities_open_more() -> None:
    assert {"mount", "clone", "clone3", "unshare"} <= allowed(policy("CAP_SYS_ADMIN"))
    assert "chroot" in allowed(policy("CAP_SYS_CHROOT"))
    assert "ptrace" in allowed(policy("CAP_SYS_PTRACE", kernel=(4, 7)))
    assert not any("clone3" in rule.names and rule.errno_ret for rule in policy("CAP_SYS_ADMIN").syscalls)


def test_machines_differ() -> None:
    assert "arch_prctl" in allowed(policy())
    assert "arch_prctl" not in allowed(policy(machine="aarch64"))
    assert policy(machine="aarch64").architectures == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    clone = next(rule for rule in policy(machine="s390x").syscalls if rule.names == ["clone"])
    assert clone.args[0].index == 1


def profile(*rules: dict[str, Any], **members: Any) -> str:
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules), **members})


def test_a_profile_with_conditions() -> None:
    text = profile(
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": None},
        {"name": "write", "action": "SCMP_ACT_ALLOW", "args": []},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["arm"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
        {"names": ["pc"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.0"}},
        {"names": ["newer"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "7.0"}},
        {"names": ["no"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_KILL"]}},
        {"names": ["yes"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["s390x"]}, "comment": "x"},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        archMap=[{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    )
    found = parse_profile(text, frozenset({"CAP_KILL"}), "x86_64", (6, 1))
    assert allowed(found) == {"read", "write", "pc", "new", "yes"}
    assert found.architectures == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert found.syscalls[-1].errno_ret == 38


@pytest.mark.parametrize(("text", "message"), [
    ("", "Decoding seccomp profile failed"),
    ("{}", "defaultAction"),
    ("[" * 100_000, "Decoding seccomp profile failed"),
    (profile(defaultAction=3), "Decoding seccomp profile failed"),
    (profile({"names": "read", "action": "SCMP_ACT_ALLOW"}), r"\$\.syscalls\[0\]\.names"),
    (profile({"names": ["read"], "action": "ALLOW"}), "unknown seccomp action: ALLOW"),
    (profile({"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}), "use either 'name' or 'names'"),
    (profile(architectures=["SCMP_ARCH_X86"], archMap=[{"architecture": "SCMP_ARCH_X86"}]), "use only one"),
    (profile(architectures=["SCMP_ARCH_PDP"]), "unknown seccomp architecture"),
    (profile(listenerPath="/x"), "not supported"),
    (profile({"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "x"}}), "invalid kernel version"),
    (" " * (2 << 20), "larger than"),
])
def test_bad_profiles(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        parse_profile(text, NONE, "x86_64", (6, 1))


@given(st.text(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["defaultAction", "syscalls", "names", "action", "args", "includes", "caps", "index"]), inner
    ),
).map(json.dumps))
def test_anything_is_a_profile_or_an_invalid_argument(text: str) -> None:
    try:
        parse_profile(text, NONE, "x86_64", (6, 1))
    except InvalidArgument:
        pass
