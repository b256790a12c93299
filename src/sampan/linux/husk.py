"""A process that goes on in new namespaces and leaves a husk behind: memory that an execve need not give back.

    process            the same, cloned (CLONE_VM, CLONE_VFORK)
      │ clone3 ───────────▶│ goes on where it was, with the same memory
      │ asleep in clone3   │ …
      │ awake ◀────────────┤ execve, or its end
      │ closes all, ends

An execve frees the memory of the process that makes it before the new program runs, which takes 0.8 ms for a Python
with all of a launcher imported. Here it is another process's, too, who frees it while the program runs already.

The husk may not go on in Python, nor in C: the stack it stands on was used by the other meanwhile. So the clone, and
what comes after it in the husk, are thirty bytes of machine code without a stack.
"""

from __future__ import annotations

import ctypes
import mmap
import os

from sampan.linux import clone, libc

_VM, _VFORK = 0x00000100, 0x00004000

_mmap = libc.lib.mmap
_mmap.restype = ctypes.c_size_t
_mprotect = libc.lib.mprotect
_MAP_FAILED = ctypes.c_size_t(-1).value

# long leave(struct clone_args *rdi, size_t rsi)
_X86_64 = b"".join((
    b"\xb8\xb3\x01\x00\x00\x0f\x05",  # mov eax, clone3; syscall
    b"\x48\x85\xc0\x7e\x19",  # test rax, rax; jle out         the new process, or an error
    b"\x31\xff\xbe\xff\xff\xff\xff\x31\xd2",  # xor edi, edi; mov esi, -1; xor edx, edx
    b"\xb8\xb4\x01\x00\x00\x0f\x05",  # mov eax, close_range; syscall
    b"\x31\xff\xb8\xe7\x00\x00\x00\x0f\x05",  # xor edi, edi; mov eax, exit_group; syscall
    b"\xc3",  # out: ret
))
_CODE = {"x86_64": _X86_64}


def leave(flags: int) -> None:
    """Go on as a new process, born with clone3 and `flags` (clone.NEW…, PARENT): returns there only.

    The old process closes its descriptors and ends, with 0, when the new one has executed a program or ended. On a
    machine whose code is not known here, and where memory may not become executable, it ends at once and its memory is
    the new one's alone: the same but for the time. Single-threaded processes only. Raises OSError, in the old process.
    """
    behind = os.sched_getscheduler(0) == os.SCHED_OTHER
    if behind:  # who wakes up and is of this kind takes no processor from others: it has time to free its memory
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    _clone(flags)
    if behind:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _clone(flags: int) -> None:
    address = _executable(_CODE.get(os.uname().machine, b""))
    if address:
        function = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t)(address)
        clone.clone_by(function, flags | _VM | _VFORK)
    elif clone.clone3(flags)[0] != 0:
        os._exit(0)


def _executable(code: bytes) -> int:
    """A page of memory with the code, for good: the husk needs it when nobody here knows of it any more. 0: none."""
    if not code:
        return 0
    size, writable = ctypes.c_size_t(mmap.PAGESIZE), ctypes.c_int(mmap.PROT_READ | mmap.PROT_WRITE)
    kind = ctypes.c_int(mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address: int = _mmap(None, size, writable, kind, ctypes.c_int(-1), ctypes.c_long(0))
    if address == _MAP_FAILED:
        raise libc.error("mmap")
    ctypes.memmove(address, code, len(code))
    if _mprotect(ctypes.c_void_p(address), size, ctypes.c_int(mmap.PROT_READ | mmap.PROT_EXEC)) != 0:
        return 0  # SELinux: execmem
    return address
