"""The file that a caller asks for with --pid-file."""

from __future__ import annotations

import os


def write(path: str, pid: int) -> None:
    """Whole or not at all: whoever waits for the file must not read half a number. Raises OSError with the path."""
    directory, name = os.path.split(path)
    temporary = f"{directory or '.'}/.{name}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, str(pid).encode())
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
