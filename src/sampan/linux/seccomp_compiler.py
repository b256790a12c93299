"""An OCI policy compiled to classic BPF by libseccomp (config-linux.md, "Seccomp"; seccomp_rule_add(3))."""

from __future__ import annotations

import errno
import os
import struct

from sampan.errors import InvalidArgument
from sampan.lean import ctypes
from sampan.lean.record import dataclass
from sampan.linux import seccomp
from sampan.linux.seccomp import NOTIFY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.oci.runtime import Seccomp, SyscallRule

ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
}
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", NOTIFY)
_WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
OPERATORS = {
    "SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5, "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}


@dataclass(frozen=True)
class _Architecture:
    token: int  # the kernel's AUDIT_ARCH_…, which libseccomp takes too
    offset: int = 0  # numbers of this ABI start here


_X32 = 0x40000000
ARCHITECTURES = {
    "SCMP_ARCH_X86": _Architecture(0x40000003),
    "SCMP_ARCH_X86_64": _Architecture(0xC000003E),
    "SCMP_ARCH_X32": _Architecture(0x4000003E, _X32),  # libseccomp's own: the kernel says X86_64 and sets a bit
    "SCMP_ARCH_ARM": _Architecture(0x40000028),
    "SCMP_ARCH_AARCH64": _Architecture(0xC00000B7),
    "SCMP_ARCH_MIPS": _Architecture(0x00000008),
    "SCMP_ARCH_MIPS64": _Architecture(0x80000008),
    "SCMP_ARCH_MIPS64N32": _Architecture(0xA0000008),
    "SCMP_ARCH_MIPSEL": _Architecture(0x40000008),
    "SCMP_ARCH_MIPSEL64": _Architecture(0xC0000008),
    "SCMP_ARCH_MIPSEL64N32": _Architecture(0xE0000008),
    "SCMP_ARCH_PARISC": _Architecture(0x0000000F),
    "SCMP_ARCH_PARISC64": _Architecture(0x8000000F),
    "SCMP_ARCH_PPC": _Architecture(0x00000014),
    "SCMP_ARCH_PPC64": _Architecture(0x80000015),
    "SCMP_ARCH_PPC64LE": _Architecture(0xC0000015),
    "SCMP_ARCH_RISCV64": _Architecture(0xC00000F3),
    "SCMP_ARCH_S390": _Architecture(0x00000016),
    "SCMP_ARCH_S390X": _Architecture(0x80000016),
    "SCMP_ARCH_LOONGARCH64": _Architecture(0xC0000102),
}

_ENOSYS = ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS
_NR_ERROR = -1  # __NR_SCMP_ERROR: libseccomp does not know the name
_CTL_OPTIMIZE = 8
_BINARY_TREE = 2


class _Compare(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint), ("operator", ctypes.c_int), ("first", ctypes.c_uint64), ("second", ctypes.c_uint64)
    )


def check(policy: Seccomp) -> None:
    """Whether every action, condition, architecture and flag of a policy is known. Raises InvalidArgument."""
    seccomp.flags_of(policy)
    _action(policy.default_action, policy.default_errno_ret)
    for name in policy.architectures:
        _architecture(name)
    for rule in policy.syscalls:
        _action(rule.action, rule.errno_ret)
        _alternatives(rule)


class Compiler:
    """libseccomp.so.2; `version` is the library's. Nothing of it is needed to load a filter."""

    def __init__(self) -> None:
        """Raises Unsupported when the library is not installed."""
        self._lib, self.version = seccomp.open_library()
        self._init = self._function("seccomp_init", ctypes.c_void_p, ctypes.c_uint32)
        self._release = self._function("seccomp_release", None, ctypes.c_void_p)
        self._arch_add = self._function("seccomp_arch_add", ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32)
        self._arch_native = self._function("seccomp_arch_native", ctypes.c_uint32)
        self._attr_set = self._function(
            "seccomp_attr_set", ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32
        )
        self._resolve = self._function("seccomp_syscall_resolve_name", ctypes.c_int, ctypes.c_char_p)
        self._resolve_arch = self._function(
            "seccomp_syscall_resolve_name_arch", ctypes.c_int, ctypes.c_uint32, ctypes.c_char_p
        )
        self._rule_add = self._function(
            "seccomp_rule_add_array", ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint,
            ctypes.c_void_p,
        )
        self._export = self._function("seccomp_export_bpf", ctypes.c_int, ctypes.c_void_p, ctypes.c_int)

    def _function(self, name: str, result: type | None, *arguments: type) -> Callable[..., int]:
        function = getattr(self._lib, name)
        function.restype = result
        function.argtypes = arguments
        found: Callable[..., int] = function
        return found

    def compile(self, policy: Seccomp) -> bytes:
        """The policy as classic BPF, ready for `load`. Raises InvalidArgument naming what is wrong.

        System calls that libseccomp does not know are left out; so are rules that say what the default says anyhow.
        """
        default = _action(policy.default_action, policy.default_errno_ret)
        architectures = [_architecture(name) for name in policy.architectures]
        context = self._init(default)
        if not context:
            raise InvalidArgument(f"seccomp: unknown default action {policy.default_action}")
        try:
            self._set_architectures(context, [found.token for found in architectures])
            self._attr_set(context, _CTL_OPTIMIZE, _BINARY_TREE)  # an older library keeps its linear search
            for rule in policy.syscalls:
                self._add(context, rule, default)
            bpf = self._exported(context)
        finally:
            self._release(context)
        if policy.default_action not in _PERMISSIVE and default != _ENOSYS:
            bpf = self._unknown_is_enosys(policy, architectures) + bpf
        return bpf

    def _set_architectures(self, context: int, tokens: list[int]) -> None:
        """The native one is there from the start, and stays, named or not: as with runc and crun."""
        for token in tokens:
            result = self._arch_add(context, token)
            if result not in (0, -errno.EEXIST):
                raise InvalidArgument(f"seccomp: libseccomp does not know architecture {token:#x}")

    def _add(self, context: int, rule: SyscallRule, default: int) -> None:
        action = _action(rule.action, rule.errno_ret)
        if action == default:
            return
        for name in rule.names:
            number = self._resolve(name.encode())
            if number == _NR_ERROR:
                continue
            for comparisons in _alternatives(rule):
                array = (_Compare * len(comparisons))(*comparisons)
                result = self._rule_add(context, action, number, len(comparisons), array)
                if result < 0:
                    raise InvalidArgument(f"seccomp: cannot add the rule for {name}: {os.strerror(-result)}")

    def _exported(self, context: int) -> bytes:
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            result = self._export(context, fd)
            if result < 0:
                raise OSError(-result, f"seccomp_export_bpf: {os.strerror(-result)}")
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def _unknown_is_enosys(self, policy: Seccomp, architectures: list[_Architecture]) -> bytes:
        """Instructions that answer ENOSYS for system calls newer than all that the policy names.

        A policy cannot name what came after it. EPERM for those would break every program that tries a new system call
        and falls back on ENOSYS, as the C library does (runc does the same).
        """
        names = {name.encode() for rule in policy.syscalls for name in rule.names}
        native = self._arch_native()
        newest: dict[int, dict[int, int]] = {}
        for found in dict.fromkeys([_Architecture(native), *architectures]):
            numbers = [self._resolve_arch(found.token, name) for name in names]
            largest = max((number for number in numbers if number >= 0), default=-1)
            if largest >= 0:
                kernel_token = 0xC000003E if found.offset == _X32 else found.token
                newest.setdefault(kernel_token, {})[found.offset] = largest
        return b"".join(_enosys_above(token, bounds) for token, bounds in newest.items())


def _action(name: str, errno_value: int | None) -> int:
    if name not in ACTIONS:
        raise InvalidArgument(f"unknown seccomp action: {name}")
    if name not in _WITH_ERRNO:
        if errno_value is not None:  # config-linux.md: never ignored
            raise InvalidArgument(f"seccomp: {name} takes no errnoRet")
        return ACTIONS[name]
    value = errno.EPERM if errno_value is None else errno_value
    if not 0 <= value <= 0xFFFF:
        raise InvalidArgument(f"seccomp: invalid errnoRet {value}")
    return ACTIONS[name] | value


def _architecture(name: str) -> _Architecture:
    if name not in ARCHITECTURES:
        raise InvalidArgument(f"unknown seccomp architecture: {name}")
    return ARCHITECTURES[name]


def _alternatives(rule: SyscallRule) -> list[list[_Compare]]:
    """A rule's conditions: all must hold, but two on one argument mean either (libseccomp takes one for each)."""
    comparisons = []
    for argument in rule.args:
        if argument.op not in OPERATORS or not 0 <= argument.index <= 5:
            raise InvalidArgument(f"seccomp: invalid condition {argument.op} on argument {argument.index}")
        if not (0 <= argument.value < 1 << 64 and 0 <= argument.value_two < 1 << 64):
            raise InvalidArgument(f"seccomp: value {argument.value} does not fit 64 bits")
        comparisons.append(
            _Compare(argument.index, OPERATORS[argument.op], argument.value, argument.value_two)
        )
    if len({comparison.argument for comparison in comparisons}) < len(comparisons):
        return [[comparison] for comparison in comparisons]
    return [comparisons]


_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_GREATER_EQUAL, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x06
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE = 0, 4  # struct seccomp_data


def _enosys_above(token: int, newest: dict[int, int]) -> bytes:
    """`newest`: start of an ABI's numbers → its largest one known. One architecture; x86_64 has a second ABI, x32."""
    load_architecture = _instruction(_LOAD, 0, 0, _OFFSET_ARCHITECTURE)
    tests = [_instruction(_LOAD, 0, 0, _OFFSET_NUMBER)]
    enosys = _instruction(_RETURN, 0, 0, _ENOSYS)
    if _X32 in newest:
        # load, is it x32? → compare with its own bound, else with the native one; 1 behind each says ENOSYS
        native = newest.get(0, _X32 - 1)
        tests += [
            _instruction(_JUMP_GREATER_EQUAL, 0, 1, _X32),
            _instruction(_JUMP_GREATER, 1, 2, newest[_X32] | _X32),
            _instruction(_JUMP_GREATER, 0, 1, native),
            enosys,
        ]
    else:
        tests += [_instruction(_JUMP_GREATER, 0, 1, newest[0]), enosys]
    return load_architecture + _instruction(_JUMP_EQUAL, 0, len(tests), token) + b"".join(tests)


def _instruction(opcode: int, if_true: int, if_false: int, number: int) -> bytes:
    """struct sock_filter."""
    return struct.pack("=HBBI", opcode, if_true, if_false, number)
