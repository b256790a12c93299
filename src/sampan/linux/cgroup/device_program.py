"""v2 has no devices controller: a BPF_CGROUP_DEVICE program decides over open(2) and mknod(2) of device nodes.

bpf(2), linux/bpf.h; the context is struct bpf_cgroup_dev_ctx {u32 access_type; u32 major; u32 minor}.
"""

from __future__ import annotations

import errno
import os
import struct

from sampan.errors import InvalidArgument, Unsupported
from sampan.lean import ctypes
from sampan.lean.record import dataclass
from sampan.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.oci.runtime import DeviceCgroup

NR_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}.get(os.uname().machine, -1)

BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_DETACH = 9
BPF_PROG_GET_FD_BY_ID = 13
BPF_OBJ_GET_INFO_BY_FD = 15
BPF_PROG_QUERY = 16
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2
BPF_F_REPLACE = 4

ACCESS = {"m": 1, "r": 2, "w": 4}
"""The kernel's bits of mknod(2), reading and writing."""
_TYPE = {"b": 1, "c": 2}
_ALL = 7

NAME = b"sampan_devices"
"""The kernel's name of our programs: how an update tells them from systemd's."""

_MAX_PROGRAMS = 64
_INFO_SIZE = 80
_INFO_NAME = slice(64, 80)
_MAX_NUMBER = 0x7FFFFFFF

# Opcodes used here (linux/bpf.h); K takes the immediate, X the source register.
_LOAD_WORD = 0x61
_MOVE_X = 0xBC
_MOVE_K = 0xB4
_AND_K = 0x54
_SHIFT_RIGHT_K = 0x74
_JUMP_EQUAL_K = 0x15
_JUMP_UNEQUAL_K = 0x55
_JUMP_UNEQUAL_X = 0x5D
_EXIT = 0x95
_JUMPS = frozenset((_JUMP_EQUAL_K, _JUMP_UNEQUAL_K, _JUMP_UNEQUAL_X))


@dataclass(frozen=True)
class Exemption:
    """One device, or all (None), that the default does not hold for; `access` is a mask of m 1, r 2, w 4."""

    type: str
    major: int | None
    minor: int | None
    access: int


@dataclass(frozen=True)
class Policy:
    """What a list of rules comes to: the default, and the exemptions from it."""

    allow: bool
    exemptions: tuple[Exemption, ...]


def policy(rules: Sequence[DeviceCgroup]) -> Policy:
    """What the rules come to, each applied to what those before it left. "a" sets the default and drops all exemptions.

    A rule that contradicts the default adds an exemption; one that agrees with it takes its accesses out of all those
    that it covers. Starts from "allow all", as a new v2 group has no program. Raises InvalidArgument, also for a rule
    that takes a part out of an exemption ("c 1:3" out of "c 1:*"): v1's kernel ignores it without a word, so that what
    was to be denied would be allowed; runc refuses it, too.
    """
    allow = True
    exemptions: dict[tuple[str, int | None, int | None], int] = {}
    for rule in rules:
        if rule.type in ("a", ""):
            allow = rule.allow
            exemptions.clear()
            continue
        if rule.type not in _TYPE or not rule.access or set(rule.access) - set(ACCESS):
            raise InvalidArgument(f"invalid device cgroup rule: {rule.type} {rule.major}:{rule.minor} {rule.access}")
        access = 0
        for letter in rule.access:
            access |= ACCESS[letter]
        key = (rule.type, number(rule.major), number(rule.minor))
        if rule.allow == allow:
            _take_out(exemptions, key, access)
        else:
            exemptions[key] = exemptions.get(key, 0) | access
    return Policy(allow, tuple(Exemption(*key, access) for key, access in exemptions.items()))


def _take_out(
    exemptions: dict[tuple[str, int | None, int | None], int], key: tuple[str, int | None, int | None], access: int
) -> None:
    kind, major, minor = key
    for other, bits in list(exemptions.items()):
        if other[0] != kind or not bits & access or _apart(major, other[1]) or _apart(minor, other[2]):
            continue
        if major not in (None, other[1]) or minor not in (None, other[2]):
            whole = ":".join("*" if part is None else str(part) for part in other[1:])
            part = ":".join("*" if part is None else str(part) for part in key[1:])
            raise InvalidArgument(
                f"invalid device cgroup rule: {kind} {part} is a part of {kind} {whole} before it: "
                "cannot punch a hole into a wildcard rule"
            )
        if bits & ~access:
            exemptions[other] = bits & ~access
        else:
            del exemptions[other]


def _apart(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one != other


def number(value: int | None) -> int | None:
    """A rule's major or minor; None, and -1 in a spec, is all of them. Raises InvalidArgument for what is no number."""
    if value is None or value == -1:
        return None
    if not 0 <= value <= _MAX_NUMBER:
        raise InvalidArgument(f"invalid device number {value}")
    return value


def program(decided: Policy) -> bytes:
    """The policy as eBPF instructions, 8 bytes each.

    Registers: r2 the device's type, r3 the accesses asked for, r4 major, r5 minor; r1 is scratch. An allowed exemption
    must hold all accesses that are asked for, a denied one any of them, as in v1.
    """
    code = [
        _instruction(_LOAD_WORD, 2, 1, 0),
        _instruction(_MOVE_X, 3, 2),
        _instruction(_AND_K, 2, number=0xFFFF),
        _instruction(_SHIFT_RIGHT_K, 3, number=16),
        _instruction(_LOAD_WORD, 4, 1, 4),
        _instruction(_LOAD_WORD, 5, 1, 8),
    ]
    for exemption in decided.exemptions:
        code += _match(exemption, not decided.allow)
    return b"".join(code + _answer(decided.allow))


def _match(exemption: Exemption, allow: bool) -> list[bytes]:
    """Return `allow` when the exemption matches, else go on behind these instructions."""
    steps = [(_JUMP_UNEQUAL_K, 2, 0, _TYPE[exemption.type])]
    if exemption.major is not None:
        steps.append((_JUMP_UNEQUAL_K, 4, 0, exemption.major))
    if exemption.minor is not None:
        steps.append((_JUMP_UNEQUAL_K, 5, 0, exemption.minor))
    if exemption.access != _ALL:
        steps += [(_MOVE_X, 1, 3, 0), (_AND_K, 1, 0, exemption.access)]
        steps.append((_JUMP_UNEQUAL_X, 1, 3, 0) if allow else (_JUMP_EQUAL_K, 1, 0, 0))
    answer = _answer(allow)
    code = []
    for index, (opcode, destination, source, number) in enumerate(steps, 1):
        behind = len(steps) - index + len(answer) if opcode in _JUMPS else 0
        code.append(_instruction(opcode, destination, source, behind, number))
    return code + answer


def _answer(allow: bool) -> list[bytes]:
    return [_instruction(_MOVE_K, number=int(allow)), _instruction(_EXIT)]


def _instruction(opcode: int, destination: int = 0, source: int = 0, offset: int = 0, number: int = 0) -> bytes:
    """struct bpf_insn: opcode, both registers in a byte, jump or load offset, immediate."""
    return struct.pack("=BBhi", opcode, source << 4 | destination, offset, number)


def load(instructions: bytes, name: bytes = NAME) -> int:
    """BPF_PROG_LOAD: a program's descriptor, the caller's to close. `name`: up to 15 characters.

    Raises Unsupported or OSError.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_text = ctypes.create_string_buffer(b"Apache-2.0")
    attribute = struct.pack(
        "=IIQQIIQII16sI", BPF_PROG_TYPE_CGROUP_DEVICE, len(instructions) // 8, ctypes.addressof(code),
        ctypes.addressof(license_text), 0, 0, 0, 0, 0, name, 0,
    )
    try:
        return _bpf(BPF_PROG_LOAD, attribute)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EINVAL):
            raise Unsupported("this kernel has no eBPF device control for cgroup v2 (CONFIG_CGROUP_BPF)") from error
        raise


def attach(directory: str, rules: Sequence[DeviceCgroup], name: bytes = NAME) -> None:
    """Make `rules` the device policy of a v2 group, in place of earlier ones of that name; others' programs stay.

    The new program is in force before the old one is gone, so there is no moment without any. All programs must agree
    to an access. Raises InvalidArgument, Unsupported or OSError with the path.
    """
    program_fd = load(program(policy(rules)), name)
    group_fd = -1
    attached: list[int] = []
    try:
        group_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        attached = _attached(group_fd)
        old = [fd for fd in attached if _name(fd) == name]
        if len(old) == 1:
            _bpf(BPF_PROG_ATTACH, struct.pack(
                "=IIIII", group_fd, program_fd, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI | BPF_F_REPLACE, old[0]))
            return
        _bpf(BPF_PROG_ATTACH, struct.pack("=IIIII", group_fd, program_fd, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI, 0))
        for fd in old:
            _bpf(BPF_PROG_DETACH, struct.pack("=III", group_fd, fd, BPF_CGROUP_DEVICE))
    except OSError as error:
        error.filename = directory
        raise
    finally:
        for fd in (program_fd, group_fd, *attached):
            if fd >= 0:
                os.close(fd)


def _name(program_fd: int) -> bytes:
    """struct bpf_prog_info's name, at offset 64 since Linux 4.15."""
    info = ctypes.create_string_buffer(_INFO_SIZE)
    _bpf(BPF_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", program_fd, _INFO_SIZE, ctypes.addressof(info)))
    return info.raw[_INFO_NAME].rstrip(b"\0")


def _attached(group_fd: int) -> list[int]:
    """Descriptors of the device programs attached to this very group."""
    ids = (ctypes.c_uint32 * _MAX_PROGRAMS)()
    attribute = ctypes.create_string_buffer(
        struct.pack("=IIIIQI", group_fd, BPF_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), _MAX_PROGRAMS), 32
    )
    libc.syscall(NR_BPF, ctypes.c_int(BPF_PROG_QUERY), attribute, ctypes.c_uint(32))
    count = struct.unpack_from("=I", attribute, 24)[0]
    return [_bpf(BPF_PROG_GET_FD_BY_ID, struct.pack("=III", ids[index], 0, 0)) for index in range(count)]


def _bpf(command: int, attribute: bytes) -> int:
    buffer = ctypes.create_string_buffer(attribute, len(attribute))
    return libc.syscall(NR_BPF, ctypes.c_int(command), buffer, ctypes.c_uint(len(attribute)))
