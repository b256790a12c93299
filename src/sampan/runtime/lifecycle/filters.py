"""A spec's seccomp policy as a filter for the kernel, compiled once per policy: that takes longer than a start."""

from __future__ import annotations

from sampan.runtime.lifecycle.records import FILTERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.linux.seccomp import Filter
    from sampan.oci import runtime as oci


def compile(root: str, policy: oci.Seccomp | None) -> Filter | None:
    """The filter of a policy, from the cache below `root` when it is there. Raises InvalidArgument, Unsupported."""
    if policy is None:
        return None
    from sampan.linux import seccomp_cache  # allowed: only containers with a policy pay for it

    return seccomp_cache.Cache(f"{root}/{FILTERS}").filter(policy)
