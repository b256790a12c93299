"""Reading and writing one control file of a cgroup directory; errors name the file and the value.

By full path, not by directory descriptor: a group needs one or two files of each hierarchy, and opening the
directory first costs more (7 µs) than walking the longer path (1 µs).
"""

from __future__ import annotations

import errno
import os

from sampan.errors import Forbidden, Internal, InvalidArgument, SampanError, Unsupported

_READ = os.O_RDONLY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CLOEXEC
_LARGEST = 1 << 20
_BAD_VALUE = frozenset(
    (errno.EINVAL, errno.ERANGE, errno.EDOM, errno.ENODEV, errno.ENXIO, errno.EBUSY, errno.ENOSPC, errno.E2BIG)
)


GONE = (errno.ENOENT, errno.ENODEV)
"""A group was removed (systemd does so as its last process ends): before its file was opened, or after."""


def read(directory: str, name: str) -> str:
    """The text of a control file. Raises OSError with its path; FileNotFoundError where the kernel lacks it."""
    path = f"{directory}/{name}"
    fd = os.open(path, _READ)
    try:
        data = os.read(fd, 4096)
        if len(data) == 4096:  # a page at a time is what kernfs gives
            while len(data) < _LARGEST and (more := os.read(fd, 65536)):
                data += more
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)
    return data.decode()


def write(directory: str, name: str, value: str) -> None:
    """Write a value in one write(2), as control files want it. Raises OSError with its path."""
    path = f"{directory}/{name}"
    fd = os.open(path, _WRITE)
    try:
        os.write(fd, _encoded(value, path))
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def write_all(directory: str, name: str, values: list[str]) -> None:
    """Several values to one file, a write(2) each: for lists such as devices.allow."""
    path = f"{directory}/{name}"
    fd = os.open(path, _WRITE)
    try:
        for value in values:
            try:
                os.write(fd, _encoded(value, path) or b"\n")  # a write of no bytes never gets to the kernel's file
            except OSError as error:
                raise failed(error, path, value) from error
    finally:
        os.close(fd)


def _encoded(value: str, path: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can express
        raise InvalidArgument(f"cannot write {value!r} to {path}: it is not text") from error


def set_value(directory: str, name: str, value: int | str) -> None:
    """`write` for limits: what the kernel refuses becomes one sentence with the file and the value.

    Raises InvalidArgument (a bad value), Forbidden, Unsupported (no such file in this kernel) or Internal.
    """
    try:
        write(directory, name, str(value))
    except OSError as error:
        raise failed(error, f"{directory}/{name}", value) from error


def failed(error: OSError, path: str, value: int | str) -> SampanError:
    """The sentence for a write that the kernel refused."""
    text = f"cannot write {str(value)!r} to {path}: {os.strerror(error.errno or 0)}"
    if error.errno in _BAD_VALUE:
        return InvalidArgument(text)
    if error.errno in (errno.EPERM, errno.EACCES, errno.EROFS):
        return Forbidden(text)
    if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
        return Unsupported(text)
    return Internal(text)


def read_int(directory: str, name: str) -> int | None:
    """The number in a control file; None for "max" and for v1's way of saying no limit (about 2**63)."""
    text = read(directory, name).strip()
    if text == "max":
        return None
    number = int(text)
    return None if number >= UNLIMITED_V1 else number


def text(directory: str, name: str) -> str:
    """`read` for accounting: "" for a file that is not there, of a group that is gone, of a controller switched off."""
    try:
        return read(directory, name)
    except OSError:
        return ""


def number(directory: str, name: str) -> int | None:
    """`read_int` for accounting: None, too, for what is not there or no number."""
    said = text(directory, name).strip()
    if not said.isdigit():
        return None
    value = int(said)
    return None if value >= UNLIMITED_V1 else value


def exists(directory: str, name: str) -> bool:
    return os.access(f"{directory}/{name}", os.F_OK)


UNLIMITED_V1 = (1 << 63) - (1 << 16)
"""v1 counters start at LONG_MAX rounded down to a page; pages are at most 64 KiB."""


def parse_flat(text: str) -> dict[str, int]:
    """Flat keyed files ("key value" a line) such as memory.stat and cpu.stat; lines of another form are left out."""
    values: dict[str, int] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        try:
            values[key] = int(value)
        except ValueError:
            continue
    return values
