"""The working directory of a container's first process: made if it is missing, entered last."""

from __future__ import annotations

import errno
import os

from sampan.errors import StartFailed
from sampan.lean.record import dataclass
from sampan.linux import paths
from sampan.runtime.operation import Stage


@dataclass(frozen=True)
class MakeWorkingDirectory:
    """The working directory with what is missing above it, root's and 0755, as runc makes it; before the root becomes
    read-only. Raises StartFailed.
    """

    path: str

    def describe(self) -> str:
        return f"make the working directory {self.path}"

    def apply(self, stage: Stage) -> None:
        try:
            os.close(paths.ensure_dir(stage.root, self.path, 0o755, 0, 0))
        except OSError as error:
            raise _failed(self.path, error) from error


def enter(root: int, path: str) -> None:
    """Go there and see that it lies in the root (CVE-2024-21626). Raises StartFailed."""
    try:
        fd = paths.open_in_root(root, path or "/", os.O_PATH | os.O_DIRECTORY)
        try:
            os.fchdir(fd)
        finally:
            os.close(fd)
        if not os.getcwd().startswith("/"):
            raise OSError(errno.ENOENT, "lies outside the container's root", path)
    except OSError as error:
        raise _failed(path, error) from error


def _failed(path: str, error: OSError) -> StartFailed:
    code = 127 if error.errno == errno.ENOENT else 126  # as dockerd: 127 is for whatever is not there
    return StartFailed(f'chdir to cwd ("{path}") failed: {(error.strerror or str(error)).lower()}', code)
