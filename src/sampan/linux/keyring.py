"""Session keyrings: keyctl(2), keyrings(7)."""

from __future__ import annotations

import os

from sampan.lean import ctypes
from sampan.linux import libc

USER_SEARCH = 0x00080000
"""KEY_USR_SEARCH: processes of the key's user may find it."""
OTHER_SEARCH = 0x00000008
"""KEY_OTH_SEARCH: everybody may find it."""

_GET_KEYRING_ID, _JOIN_SESSION_KEYRING, _SETPERM, _DESCRIBE = 0, 1, 5, 6
_SESSION_KEYRING = -3  # KEY_SPEC_SESSION_KEYRING
_NR_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219}.get(os.uname().machine, -1)


def join_session(name: str) -> int:
    """Leave the session keyring; join the one called `name`, made if we can find none; "": a new one. Returns its
    serial number. Whoever lets others search a keyring of that name has it found: look at its owner (`describe`).

    Raises OSError: EPERM, ENOSYS where the host does not allow it (inside many containers), EDQUOT when root's quota
    of keys (/proc/sys/kernel/keys/root_maxkeys) is used up.
    """
    called = name.encode() if name else ctypes.c_void_p(0)
    serial = libc.syscall(_NR_KEYCTL, ctypes.c_int(_JOIN_SESSION_KEYRING), called)
    return serial or session()  # 0: it is ours already


def session() -> int:
    """The serial number of the calling thread's session keyring. Raises OSError."""
    return libc.syscall(
        _NR_KEYCTL, ctypes.c_int(_GET_KEYRING_ID), ctypes.c_int(_SESSION_KEYRING), ctypes.c_int(0)
    )


def describe(serial: int) -> tuple[int, int]:
    """(uid of the owner, permission bits) of a key. Raises OSError."""
    buffer = ctypes.create_string_buffer(512)
    size = libc.syscall(_NR_KEYCTL, ctypes.c_int(_DESCRIBE), ctypes.c_int(serial), buffer, ctypes.c_size_t(len(buffer)))
    # "keyring;UID;GID;PERMISSIONS in hexadecimal;NAME"; the name may hold anything and may be cut
    fields = buffer.raw[:size].split(b";")
    return int(fields[1]), int(fields[3], 16)


def set_permissions(serial: int, permissions: int) -> None:
    """The permission bits of a key. Raises OSError."""
    libc.syscall(_NR_KEYCTL, ctypes.c_int(_SETPERM), ctypes.c_int(serial), ctypes.c_uint(permissions))
