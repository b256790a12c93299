"""What a compiled seccomp filter says to a system call, without making it: classic BPF, as the kernel runs it.

Only the instructions that libseccomp writes: load a word of struct seccomp_data, compare, mask, jump, return.
"""

from __future__ import annotations

import os
import struct

_ALLOW, _LOG = 0x7FFF0000, 0x7FFC0000  # linux/seccomp.h
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06  # linux/bpf_common.h: the instruction's class, source and operation
_JUMP, _EQUAL, _GREATER, _GREATER_EQUAL, _ANY_BIT = 0x05, 0x15, 0x25, 0x35, 0x45

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_NUMBERS = {
    "x86_64": {"clone": 56, "sendmsg": 46, "exit_group": 231, "setsid": 112, "ioctl": 16},
    "aarch64": {"clone": 220, "sendmsg": 211, "exit_group": 94, "setsid": 157, "ioctl": 29},
}


def allows(bpf: bytes, call: str, *arguments: int) -> bool:
    """Whether the filter lets this machine make the call; arguments that are left out are 0.

    False as well for a call, a machine or an instruction that is not known here.
    """
    machine = os.uname().machine
    number = _NUMBERS.get(machine, {}).get(call)
    if number is None:
        return False
    data = struct.pack("=IIQ6Q", number, _ARCH[machine], 0, *arguments, *[0] * (6 - len(arguments)))
    return _run(bpf, data) & 0xFFFF0000 in (_ALLOW, _LOG)


def _run(bpf: bytes, data: bytes) -> int:
    """The answer; 0, which is SECCOMP_RET_KILL_THREAD, where it cannot be told."""
    word, at = 0, 0
    while at * 8 < len(bpf):  # jumps lead forward only: it ends
        code, when, otherwise, value = struct.unpack_from("=HBBI", bpf, at * 8)
        at += 1
        if code == _RETURN:
            return int(value)
        if code == _LOAD:
            word = struct.unpack_from("=I", data, value)[0]
        elif code == _AND:
            word &= value
        elif code == _JUMP:
            at += value
        else:
            holds = _holds(code, word, value)
            if holds is None:
                return 0
            at += when if holds else otherwise
    return 0


def _holds(code: int, word: int, value: int) -> bool | None:
    if code == _EQUAL:
        return word == value
    if code == _GREATER:
        return word > value
    if code == _GREATER_EQUAL:
        return word >= value
    return bool(word & value) if code == _ANY_BIT else None
