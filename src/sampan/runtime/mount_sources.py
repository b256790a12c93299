"""Sources of binds that the runtime opens itself, because the container's first process may not.

An idmapped mount needs CAP_SYS_ADMIN over the file system it shows: in a user namespace of its own the container's
first process has it over nothing of the host. And a directory on the way to a source may be closed to the container's
root. A detached mount (open_tree(2)) is made here, in the runtime, and only attached there.
"""

from __future__ import annotations

import errno
import os

from sampan.errors import InvalidArgument, SampanError, Unsupported
from sampan.linux import mount, userns
from sampan.runtime import device_sources, mount_entries, mounts, options, target

ROOT = -1
"""The index of the root file system among what was prepared."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci import runtime as oci
    from sampan.runtime.options import MountOptions


def prepare(spec: oci.Spec, user_namespace: int = -1, state: int = -1) -> dict[int, int]:
    """Index of an entry of spec.mounts, or ROOT, or a key of a device (mount_entries.nodes) → descriptor of a detached
    mount; the caller's to close later.

    In the runtime, before the clone, its descriptors kept by the child. `user_namespace` is that of a container that
    joins one, or -1. `state`: the container's own directory, to make devices in, which stay; -1: none are made. Raises
    InvalidArgument, Unsupported, OSError; nothing stays open then.
    """
    made: dict[int, int] = {}
    assert spec.linux is not None
    confined = any(namespace.type == "user" for namespace in spec.linux.namespaces) and os.geteuid() == 0
    try:
        if confined and spec.root is not None:
            _add_root(made, spec.root.path)
        if confined and state >= 0:
            _add_devices(made, spec.linux, state)
        for index, entry in enumerate(spec.mounts):
            parsed = options.parse(entry.options)
            mapped = mount_entries.wants_id_map(entry, parsed)
            if mount_entries.is_bind(entry, parsed) and not parsed.remount and (mapped or confined):
                fd = _open(entry, parsed, spec.linux, mapped, user_namespace)
                if fd >= 0:
                    made[index] = fd
                    if confined or not spec.linux.rootfs_propagation.endswith("shared"):
                        _detach(fd)
    except BaseException:
        for fd in made.values():
            os.close(fd)
        raise
    return made


def _add_root(made: dict[int, int], path: str) -> None:
    try:
        made[ROOT] = mount.clone_tree(path, recursive=True)
    except PermissionError:
        return  # as with sources: the init stage tries
    _detach(made[ROOT])


def _add_devices(made: dict[int, int], linux: oci.Linux, state: int) -> None:
    for key, device in mount_entries.nodes(linux, {}).items():
        fd = device_sources.make(device, f"device{key}", linux, state) if device.kind != "p" else -1
        if fd >= 0:
            made[key] = fd


def _open(entry: oci.Mount, parsed: MountOptions, linux: oci.Linux, mapped: bool, user_namespace: int) -> int:
    try:
        fd = mounts.open_source(entry.source, parsed)
    except PermissionError as error:
        if mapped:
            raise _refused(error, f"mount {target.clean(entry.destination)!r}", entry.source) from error
        return -1  # we may not either, being in a user namespace ourselves: the init stage tries, and says why not
    try:
        if mapped:
            _map(fd, entry, parsed, linux, user_namespace)
        return fd
    except BaseException:
        os.close(fd)
        raise


def _detach(fd: int) -> None:
    """It was opened in the host's mount namespace, where a shared mount's copy is its peer: what the container mounts
    there would reach the host, even out of a user namespace.
    """
    mount.set_attributes(fd, propagation=mount.MS_SLAVE, recursive=True)


def _map(fd: int, entry: oci.Mount, parsed: MountOptions, linux: oci.Linux, user_namespace: int) -> None:
    where = f"mount {target.clean(entry.destination)!r}"
    if bool(entry.uid_mappings) != bool(entry.gid_mappings):
        raise InvalidArgument(f"{where}: an id-mapped mount needs both uidMappings and gidMappings")
    if not entry.uid_mappings and not linux.uid_mappings and user_namespace < 0:
        raise InvalidArgument(
            f"{where}: idmap without uidMappings and gidMappings needs a container with a user namespace of its own"
        )
    namespace, ours = user_namespace, False
    if entry.uid_mappings or namespace < 0:
        uids, gids = entry.uid_mappings or linux.uid_mappings, entry.gid_mappings or linux.gid_mappings
        namespace, ours = userns.create(userns.of_spec(uids), userns.of_spec(gids)), True
    try:
        mount.set_attributes(fd, mount.ATTR_IDMAP, recursive=parsed.id_map == "ridmap", userns_fd=namespace)
    except OSError as error:
        raise _refused(error, where, entry.source) from error
    finally:
        if ours:
            os.close(namespace)


def _refused(error: OSError, where: str, source: str) -> SampanError | OSError:
    if error.errno == errno.EINVAL:
        return Unsupported(f"{where}: the file system of {source!r} cannot be id-mapped on this kernel")
    if error.errno == errno.EPERM:
        return Unsupported(
            f"{where}: {source!r} cannot be id-mapped: that needs CAP_SYS_ADMIN where its file system was mounted, "
            "and a mount that is not id-mapped already"
        )
    return OSError(error.errno, error.strerror, source)
