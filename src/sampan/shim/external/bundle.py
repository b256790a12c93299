"""The bundle: RUN/config.json and RUN/rootfs, the overlay mounted in a mount namespace that the host does not see.

The namespace is the starter's from here on, later the shim's. All that the runtime mounts is in it or below it: when
the shim has ended, the kernel has unmounted everything. It is a slave of the host's: what the host mounts arrives.
"""

from __future__ import annotations

import os

import msgspec

from sampan.errors import StartFailed
from sampan.linux import clone, mount, paths
from sampan.oci import runtime as oci
from sampan.runtime import users
from sampan.runtime.newborn import Work
from sampan.runtime.rootfs import Overlay
from sampan.shim.external import document

CONFIG = "config.json"
ROOTFS = "rootfs"


def enter(path: str) -> int:
    """Enter a mount namespace of our own; RUN (`path`) as it is there. For a process without threads.

    A descriptor from outside would lead outside again: nothing can be mounted through it.
    """
    clone.unshare(clone.NEWNS)
    mount.set_propagation("/", mount.MS_SLAVE | mount.MS_REC)
    return open_run(path)


def open_run(path: str) -> int:
    """RUN, a directory that only its owner can look into."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def make(work: Work, directory: int, joined: dict[str, int]) -> None:
    """Make the bundle in `directory` (from `enter`).

    `joined`: kind → descriptor of a namespace to join. Raises StartFailed, InvalidArgument, OSError.
    """
    spec = work.spec
    if spec.process is None or spec.linux is None:
        raise StartFailed("the spec has no process or no linux section")
    os.mkdir(ROOTFS, 0o755, dir_fd=directory)
    root = _mount(work, directory)
    try:
        identity = users.resolve(spec.process.user, root)
        _make_working_directory(spec.process, root)
    finally:
        os.close(root)
    names = {kind: _hold(fd, kind, directory) for kind, fd in joined.items()}
    where = os.readlink(f"/proc/self/fd/{directory}")
    content = document.config(spec, identity, ROOTFS, {kind: f"{where}/{name}" for kind, name in names.items()})
    write(directory, CONFIG, msgspec.json.encode(content))


def write(directory: int, name: str, content: bytes) -> None:
    """A new file of RUN, for its owner alone."""
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    with open(fd, "wb") as file:
        file.write(content)


def _mount(work: Work, directory: int) -> int:
    """The root's own descriptor; it is attached at RUN/rootfs too."""
    rootfs = work.rootfs
    if isinstance(rootfs, Overlay):
        root = mount.overlay(list(rootfs.lower), rootfs.upper, rootfs.work)
    else:
        root = mount.clone_tree(rootfs.path, recursive=True)
    try:
        _attach(root, ROOTFS, directory)
    except BaseException:
        os.close(root)
        raise
    return root


def _hold(fd: int, kind: str, directory: int) -> str:
    """A namespace as a file of RUN, bound in our mount namespace: a path that is right as long as it lasts."""
    name = f"ns-{kind}"
    write(directory, name, b"")
    held = mount.clone_tree(f"/proc/self/fd/{fd}")
    try:
        _attach(held, name, directory)
    finally:
        os.close(held)
    return name


def _attach(mount_fd: int, name: str, directory: int) -> None:
    target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        mount.attach(mount_fd, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error
    finally:
        os.close(target)


def _make_working_directory(process: oci.Process, root: int) -> None:
    """One that is missing is made, as dockerd does: the spec does not ask runtimes for it."""
    if not paths.exists(root, process.cwd or "/"):
        os.close(paths.ensure_dir(root, process.cwd, 0o755, 0, 0))
