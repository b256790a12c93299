"""All cgroup hierarchies of this host: a runtime makes its groups in every one, also where we have none."""

from __future__ import annotations

import errno
import os

from sampan.linux import mountinfo
from sampan.linux.cgroup.cgroupfs import check_path

_EXPECTED = (errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY, errno.EROFS)


def remove_empty(path: str) -> None:
    """Remove the group `path`, relative to each hierarchy's root, wherever it is there and has nothing in it."""
    name = check_path(path)
    for mount_point in _mount_points():
        try:
            os.rmdir(f"{mount_point}/{name}")  # allowed: cgroupfs; plain names, checked
        except OSError as error:
            if error.errno not in _EXPECTED:
                raise


def _mount_points() -> list[str]:
    return [mount.target for mount in mountinfo.own() if mount.kind in ("cgroup", "cgroup2")]
