"""seccomp(2): compiled filters, kept and loaded with nothing but this module.

Compiling takes about 20 ms, loading 0.2 ms: the engine (or runtime) compiles once per policy (seccomp_compiler.py), the
container's init stage loads the bytes as its last step before execve(2).
"""

from __future__ import annotations

import binascii
import errno
import os
import struct

from sampan.errors import InvalidArgument, Unsupported
from sampan.lean import ctypes
from sampan.lean.record import dataclass
from sampan.linux import libc, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.oci.runtime import Seccomp

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
"""The flags an OCI policy may name, as seccomp(2) numbers them."""
FLAG_NEW_LISTENER = 8
FLAG_TSYNC_ESRCH = 16

NR_SECCOMP = {"x86_64": 317, "aarch64": 277, "riscv64": 277, "s390x": 348, "ppc64le": 358}.get(os.uname().machine, -1)
SECCOMP_SET_MODE_FILTER = 1
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2

NOTIFY = "SCMP_ACT_NOTIFY"
_PROGRAM = struct.Struct("=H6xQ")  # struct sock_fprog: how many, where

_SOL_SOCKET, _SCM_RIGHTS = 1, 1

_prctl = libc.lib.prctl
_write, _sendmsg, _read = libc.lib.write, libc.lib.sendmsg, libc.lib.read
for _function in (_write, _sendmsg, _read):
    _function.restype = ctypes.c_ssize_t


@dataclass(frozen=True)
class Filter:
    """A compiled policy: classic BPF (struct sock_filter, 8 bytes each), and the flags to load it with."""

    bpf: bytes
    flags: int = 0


_FILE = struct.Struct("<II")  # in front of the instructions: CRC-32 of all that follows it, flags
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS


def to_file(filter: Filter) -> bytes:
    """A filter as it is kept in a file."""
    content = _FILE.pack(0, filter.flags)[4:] + filter.bpf
    return _FILE.pack(binascii.crc32(content), 0)[:4] + content


def read(path: str) -> Filter:
    """A filter kept in a file. Raises OSError: EBADMSG for one that is not whole, because no filter, or half of one,
    must never be taken for the one that was asked for.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, _FILE.size + _MAX_INSTRUCTIONS * 8 + 1)
    finally:
        os.close(fd)
    size = len(data) - _FILE.size
    if not 0 < size <= _MAX_INSTRUCTIONS * 8 or size % 8 or _FILE.unpack_from(data)[0] != binascii.crc32(data[4:]):
        raise OSError(errno.EBADMSG, "is not a whole compiled seccomp filter", path)
    return Filter(data[_FILE.size :], _FILE.unpack_from(data)[1])


def load(bpf: bytes, flags: int = 0) -> int:
    """Put the calling thread under a compiled filter, for ever. Returns the listener with FLAG_NEW_LISTENER, else 0.

    Needs no_new_privs or CAP_SYS_ADMIN. Raises OSError.
    """
    buffer = ctypes.create_string_buffer(bpf, len(bpf))
    program = _PROGRAM.pack(len(bpf) // 8, ctypes.addressof(buffer))
    try:
        return libc.syscall(
            NR_SECCOMP, ctypes.c_uint(SECCOMP_SET_MODE_FILTER), ctypes.c_uint(flags), program
        )
    except OSError as error:
        if error.errno != errno.ENOSYS or flags:
            raise
    mode, zero = ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.c_ulong(0)
    if _prctl(ctypes.c_int(PR_SET_SECCOMP), mode, program, zero, zero) != 0:  # before Linux 3.17
        raise libc.error("prctl PR_SET_SECCOMP")
    return 0


def load_and_tell(bpf: bytes, flags: int, sock: int, message: Callable[[int], bytes], with_rights: bool) -> int:
    """`load` with FLAG_NEW_LISTENER; tell of the listener before any other call is made, since nobody answers it until
    somebody has it; return it when an answer has come. -1 when the other end was closed instead.

    `message(N)` is what is sent on the SEQPACKET socket `sock` for the listener N: made before, as all structures are
    (struct iovec, cmsghdr, msghdr). `with_rights`: with the descriptor, by sendmsg(2); otherwise by write(2), without
    it. Single-threaded callers only: another thread could take the number. Raises OSError.
    """
    number = process.next_descriptor()
    data = message(number)
    text, to, answer = ctypes.create_string_buffer(data), ctypes.c_int(sock), ctypes.create_string_buffer(64)
    size, zero = ctypes.c_size_t(len(data)), ctypes.c_int(0)
    vector = ctypes.create_string_buffer(struct.pack("=QQ", ctypes.addressof(text), len(data)), 16)
    rights = ctypes.create_string_buffer(struct.pack("=Qiii4x", 20, _SOL_SOCKET, _SCM_RIGHTS, number), 24)
    header = ctypes.create_string_buffer(
        struct.pack("=Q8xQQQQ8x", 0, ctypes.addressof(vector), 1, ctypes.addressof(rights), 24), 56
    )
    listener = load(bpf, flags)
    told = _sendmsg(to, header, zero) if with_rights else _write(to, text, size)
    if listener != number or told < 0:
        raise OSError(errno.EPROTO, f"the seccomp listener could not be announced (descriptor {listener})")
    return listener if _read(to, answer, ctypes.c_size_t(len(answer))) > 0 else -1


def notifies(policy: Seccomp) -> bool:
    """Whether somebody outside is asked about some calls: then the filter has a listener (seccomp_unotify(2))."""
    return any(rule.action == NOTIFY for rule in policy.syscalls)


def flags_of(policy: Seccomp) -> int:
    """The policy's flags for `load`. Raises InvalidArgument for an unknown one."""
    flags = FLAG_NEW_LISTENER if notifies(policy) else 0
    for name in policy.flags:
        if name not in FLAGS:
            raise InvalidArgument(f"unknown seccomp flag: {name}")
        if name == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" and not flags & FLAG_NEW_LISTENER:
            continue  # says how a listener waits; without one the kernel refuses it
        if name == "SECCOMP_FILTER_FLAG_TSYNC" and flags & FLAG_NEW_LISTENER:
            flags |= FLAG_TSYNC_ESRCH  # else the kernel would have one result for two answers
        flags |= FLAGS[name]
    return flags


def supported_flags() -> list[str]:
    """The flags of `FLAGS` that this kernel knows: asked with a filter it cannot read, so that nothing is loaded."""
    known = []
    for name, flag in FLAGS.items():
        listener = FLAG_NEW_LISTENER if name == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" else 0
        try:
            libc.syscall(NR_SECCOMP, ctypes.c_uint(SECCOMP_SET_MODE_FILTER), ctypes.c_uint(flag | listener), None)
        except OSError as error:
            if error.errno == errno.EFAULT:
                known.append(name)
    return known


def open_library() -> tuple[ctypes.CDLL, str]:
    """libseccomp.so.2 and its version, "2.5.4": what a policy is compiled to depends on it. Raises Unsupported."""
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError as error:
        raise Unsupported("libseccomp is not installed (Debian: apt-get install libseccomp2)") from error
    function = library.seccomp_version
    function.restype = ctypes.c_void_p
    return library, ".".join(str(number) for number in (ctypes.c_uint * 3).from_address(function()))
