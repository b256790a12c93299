"""A program of some hundred bytes that executes another: what a container's first moment looks like from inside.

A runtime written in Python becomes the user's program by execve(2), and until then it is the host's interpreter. An
image whose entry point is a script with `#!/proc/self/exe` would run just that interpreter, and could open it for
writing once nobody executes it any more (CVE-2019-5736). So the init stage first becomes this: a static ELF file in a
sealed memfd, of which nothing of the host can be reached and nothing can be changed, and this executes the program.

    init stage       fd = create(sync)              no file system, no name, not writable by anybody
                     execute(fd, path, args, env)   argv is path, then the program's own
    trampoline       fcntl(sync, F_SETFD, FD_CLOEXEC)
                     seccomp(FILTER, flags, filter) only when a filter was given to create()
                     execve(path, argv + 1, envp)
                     write(sync, {"trampoline": …}), exit_group(127)      only when one of them failed

The filter is loaded at the last moment there is: of the program's profile the start needs execve alone, and write and
exit_group to say that it failed. Loading it here takes no_new_privs; without that only CAP_SYS_ADMIN may load one, as
the init stage does before it drops it, and then the profile must allow execveat and fcntl too.

What the second execve changes: capabilities that are permitted but not ambient are gone for a user who is not root, as
after any execve; only a program with file capabilities under no_new_privs can tell the difference.

Until then it holds `sync`, on which it could speak for the runtime's own process: nobody inside may get hold of that by
tracing it (ptrace(2), pidfd_getfd(2)). The file is not readable: who executes it without CAP_DAC_OVERRIDE and
CAP_DAC_READ_SEARCH in effect is not dumpable (would_dump() in the kernel).

The code is position dependent and makes system calls only; one list of instructions for each architecture below.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

EXIT_CODE = 127

_MFD_EXEC = 0x10  # Linux 6.3: this one is meant to be executed, whatever vm.memfd_noexec=1 has as its default
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

# The whole file is mapped twice: to execute, and privately to write. 64 KiB is the largest page size there is.
_TEXT, _DATA, _ALIGN = 0x400000, 0x800000, 0x10000
_HEADERS = 64 + 3 * 56
_MESSAGE_AT, _FPROG_AT, _FILTER_AT = 0x200, 0x240, 0x250
_MESSAGE = b'{"trampoline":"?000"}'
_STEP = _MESSAGE_AT + _MESSAGE.index(b"?")
_STEPS = {"f": "fcntl", "s": "seccomp", "x": "execve"}
_F_SETFD, _FD_CLOEXEC, _SET_MODE_FILTER = 2, 1, 1


def available() -> bool:
    """Whether this machine's kernel executes such a file: known architecture, memfds may be executable.

    vm.memfd_noexec=2 forbids them. A security module may still refuse: then execute() raises.
    """
    if os.uname().machine not in _CODE:
        return False
    try:
        os.close(_memfd())
    except OSError:
        return False
    return True


def create(report_fd: int, seccomp: bytes = b"", seccomp_flags: int = 0) -> int:
    """The sealed file, ready to be executed; close-on-exec, the caller's to close. Raises OSError.

    `report_fd` is where a failure is told, a descriptor of the process that will execute: a SEQPACKET socket or a pipe.
    `seccomp`: a compiled filter (at most 4096 instructions of 8 bytes) to load with `seccomp_flags`; not NEW_LISTENER.
    To be called before limits are set: RLIMIT_FSIZE counts here. One page of memory for a filter of up to 400 lines.
    """
    fd = _memfd()
    try:
        os.write(fd, image(os.uname().machine, report_fd, seccomp, seccomp_flags))
        os.fchmod(fd, 0o111)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def execute(fd: int, path: str, args: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Become the program at `path`, by way of the trampoline `fd`. Every other descriptor is to be close-on-exec, but
    stdio and what the program shall inherit; `report_fd` is made so by the trampoline.

    Raises OSError only when the trampoline itself could not be executed: E2BIG, or a policy (EACCES, EPERM, ENOSYS).
    What goes wrong later is told on `report_fd` (`reason`), and the exit code is EXIT_CODE.
    """
    report_fd = struct.unpack("<I", os.pread(fd, 4, _FPROG_AT + 4))[0]
    os.set_inheritable(report_fd, True)
    try:
        os.execve(fd, [path, *args], env)
    except OSError as error:
        os.set_inheritable(report_fd, False)
        raise OSError(error.errno, error.strerror, path) from error


def reason(word: str) -> tuple[str, int]:
    """What failed, from the message {"trampoline": word}: the system call's name and its errno.

    ("execve", ENOENT) is about the path, or about its interpreter when the path is there.
    """
    return _STEPS.get(word[:1], "execve"), int(word[1:])


def _memfd() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("sampan", flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create("sampan", flags)  # before Linux 6.3


def image(machine: str, report_fd: int, seccomp: bytes = b"", seccomp_flags: int = 0) -> bytes:
    """The ELF file as bytes, for "x86_64" or "aarch64". Pure."""
    number, assemble = _CODE[machine]
    code = assemble(report_fd, seccomp_flags if seccomp else -1)
    # struct sock_fprog; its padding holds report_fd, for execute().
    fprog = struct.pack("<HxxIQ", len(seccomp) // 8, report_fd, _DATA + _FILTER_AT)
    size = _FILTER_AT + len(seccomp)
    return b"".join((
        b"\x7fELF\2\1\1".ljust(16, b"\0"),
        struct.pack("<HHIQQQIHHHHHH", 2, number, 1, _TEXT + _HEADERS, 64, 0, 0, 64, 56, 3, 64, 0, 0),
        struct.pack("<IIQQQQQQ", 1, 5, 0, _TEXT, _TEXT, size, size, _ALIGN),  # PT_LOAD, r-x
        struct.pack("<IIQQQQQQ", 1, 6, 0, _DATA, _DATA, size, size, _ALIGN),  # PT_LOAD, rw-
        struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16),  # PT_GNU_STACK: it holds no code
        code.ljust(_MESSAGE_AT - _HEADERS, b"\0"),
        _MESSAGE.ljust(_FPROG_AT - _MESSAGE_AT, b"\0"),
        fprog,
        seccomp,
    ))


# ---- x86-64: the call's number in eax, arguments in edi, esi, edx; a syscall changes rcx and r11 only. ----


def _x86_64(report_fd: int, seccomp_flags: int) -> bytes:
    failed = b"".join((
        b"\xf7\xd8",  # neg eax                     the errno
        b"\xb9", _u32(10),  # mov ecx, 10
        b"\x31\xd2\xf7\xf1",  # xor edx, edx; div ecx
        b"\x00\x14\x25", _u32(_DATA + _STEP + 3),  # add [units], dl
        b"\x31\xd2\xf7\xf1",  # xor edx, edx; div ecx
        b"\x00\x14\x25", _u32(_DATA + _STEP + 2),  # add [tens], dl
        b"\x00\x04\x25", _u32(_DATA + _STEP + 1),  # add [hundreds], al
        b"\x88\x1c\x25", _u32(_DATA + _STEP),  # mov [step], bl
        _x86_64_call(1, report_fd, _DATA + _MESSAGE_AT, len(_MESSAGE)),  # write
        _x86_64_call(231, EXIT_CODE, 0, 0),  # exit_group
    ))
    execve = b"".join((
        b"\xbb", _u32(ord("x")),  # mov ebx, 'x'
        b"\x48\x8b\x7c\x24\x08",  # mov rdi, [rsp+8]          argv[0]: the path
        b"\x48\x8d\x74\x24\x10",  # lea rsi, [rsp+16]         argv + 1
        b"\x48\x8b\x04\x24",  # mov rax, [rsp]            argc
        b"\x48\x8d\x54\xc4\x10",  # lea rdx, [rsp+rax*8+16]   envp, behind argv's null pointer
        b"\xb8", _u32(59), b"\x0f\x05",  # mov eax, execve; syscall
    ))
    code = execve + failed
    if seccomp_flags >= 0:
        call = _x86_64_call(317, _SET_MODE_FILTER, seccomp_flags, _DATA + _FPROG_AT)
        code = _x86_64_step("s", call, len(execve)) + code
    call = _x86_64_call(72, report_fd, _F_SETFD, _FD_CLOEXEC)
    return _x86_64_step("f", call, len(code) - len(failed)) + code


def _x86_64_call(number: int, first: int, second: int, third: int) -> bytes:
    """mov edi, first; mov esi, second; mov edx, third; mov eax, number; syscall"""
    return b"\xbf%b\xbe%b\xba%b\xb8%b\x0f\x05" % (_u32(first), _u32(second), _u32(third), _u32(number))


def _x86_64_step(name: str, call: bytes, to_failed: int) -> bytes:
    """mov ebx, name; the call; test eax, eax; js failed"""
    return b"\xbb%b%b\x85\xc0\x78%c" % (_u32(ord(name)), call, to_failed)


def _u32(value: int) -> bytes:
    return struct.pack("<I", value)


# ---- AArch64: the call's number in x8, arguments in x0, x1, x2; a syscall changes x0 only. ----


def _aarch64(report_fd: int, seccomp_flags: int) -> bytes:
    failed = [
        0xCB0003E0,  # neg x0, x0                 the errno
        *_set(9, 10),  # mov x9, #10
        0x9AC9080A,  # udiv x10, x0, x9
        0x9B09814B,  # msub x11, x10, x9, x0      units
        0x9AC9094C,  # udiv x12, x10, x9          hundreds
        0x9B09A98D,  # msub x13, x12, x9, x10     tens
        *_set(1, _DATA + _STEP),  # mov x1, #step
        *(0x1100C000 | register << 5 | register for register in (11, 12, 13)),  # add wN, wN, #'0'
        0x39000033,  # strb w19, [x1]             the step
        0x3900042C,  # strb w12, [x1, #1]
        0x3900082D,  # strb w13, [x1, #2]
        0x39000C2B,  # strb w11, [x1, #3]
        *_aarch64_call(64, report_fd, _DATA + _MESSAGE_AT, len(_MESSAGE)),  # write
        *_aarch64_call(94, EXIT_CODE, 0, 0),  # exit_group
    ]
    execve = [
        *_set(19, ord("x")),  # mov x19, #'x'
        0xF94007E0,  # ldr x0, [sp, #8]           argv[0]: the path
        0x910043E1,  # add x1, sp, #16            argv + 1
        0xF94003E2,  # ldr x2, [sp]               argc
        0x8B020C22,  # add x2, x1, x2, lsl #3     envp, behind argv's null pointer
        *_set(8, 221),  # mov x8, #execve
        0xD4000001,  # svc #0
    ]
    code = execve + failed
    if seccomp_flags >= 0:
        call = _aarch64_call(277, _SET_MODE_FILTER, seccomp_flags, _DATA + _FPROG_AT)
        code = _aarch64_step("s", call, len(execve)) + code
    call = _aarch64_call(25, report_fd, _F_SETFD, _FD_CLOEXEC)
    code = _aarch64_step("f", call, len(code) - len(failed)) + code
    return struct.pack(f"<{len(code)}I", *code)


def _aarch64_call(number: int, first: int, second: int, third: int) -> list[int]:
    """mov x0, first; mov x1, second; mov x2, third; mov x8, number; svc #0"""
    return [*_set(0, first), *_set(1, second), *_set(2, third), *_set(8, number), 0xD4000001]


def _aarch64_step(name: str, call: list[int], to_failed: int) -> list[int]:
    """mov x19, name; the call; tbnz x0, #63, failed"""
    return [*_set(19, ord(name)), *call, 0xB7F80000 | (to_failed + 1) << 5]


def _set(register: int, value: int) -> tuple[int, int]:
    """movz xN, #low; movk xN, #high, lsl 16"""
    return 0xD2800000 | (value & 0xFFFF) << 5 | register, 0xF2A00000 | (value >> 16) << 5 | register


_CODE = {"x86_64": (62, _x86_64), "aarch64": (183, _aarch64)}
