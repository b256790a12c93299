"""Device nodes for a container with a user namespace of its own: in there nobody may make any.

The runtime makes them, as the container's root would own them, and hands over a detached mount of each (open_tree(2)).
Otherwise only what the host has a node of could be bound, with the host's owner, who is nobody inside.
"""

from __future__ import annotations

import os

from sampan.linux import mount, userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci import runtime as oci
    from sampan.runtime.devices import MakeDevice

def make(device: MakeDevice, name: str, linux: oci.Linux, directory: int) -> int:
    """The descriptor of a detached mount of the node, the caller's to close. -1 where it cannot be made: by a runtime
    that may not, or when the owner is not mapped.

    `name` in `directory`, where nobody else comes to, has to stay until the mount is attached: the kernel refuses one
    of what has no name any more.
    """
    try:
        uid = userns.to_host(userns.of_spec(linux.uid_mappings), device.uid)
        gid = userns.to_host(userns.of_spec(linux.gid_mappings), device.gid)
    except OSError:
        return -1
    old = os.umask(0)
    try:
        device.make_node(directory, name, uid, gid)
    except PermissionError:
        return -1
    finally:
        os.umask(old)
    made = mount.clone_tree(name, directory)
    try:
        # /run is mounted with it; and a peer of /run would show the host what the container mounts on its device
        mount.set_attributes(made, clear=mount.ATTR_NODEV, propagation=mount.MS_PRIVATE)
    except BaseException:
        os.close(made)
        raise
    return made
