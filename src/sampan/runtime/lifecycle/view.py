"""A container as `state` and `list` show it: runtime.md, "State", with runc's own members besides."""

from __future__ import annotations

from sampan.errors import NotFound
from sampan.oci import runtime as oci
from sampan.runtime.lifecycle import status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.lifecycle.records import Entry


def of(entry: Entry) -> dict[str, object]:
    """ociVersion, id, pid (0 when it has ended), status, bundle, rootfs, created, annotations if any, owner."""
    try:
        record = entry.read()
    except NotFound:
        found = status.of(entry)
        return {"ociVersion": oci.VERSION, "id": entry.id, "pid": 0, "status": found, "bundle": ""}
    found = status.of(entry, record)
    view: dict[str, object] = {
        "ociVersion": oci.VERSION,
        "id": record.id,
        "pid": 0 if found == status.STOPPED else record.pid,
        "status": found,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
    }
    if record.annotations:
        view["annotations"] = record.annotations
    view["owner"] = record.owner
    return view
