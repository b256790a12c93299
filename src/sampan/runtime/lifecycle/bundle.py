"""A bundle: config.json and the root file system beside it (bundle.md). What the spec forbids is refused here, once."""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument, NotFound, Unsupported
from sampan.lean.structs import DecodeError
from sampan.linux import clone
from sampan.oci import runtime as oci
from sampan.runtime.lifecycle import documents, hooks
from sampan.runtime.users import MAX_KERNEL_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _T = TypeVar("_T")

_CLOCKS = ("monotonic", "boottime")
_MOST_GROUPS = 65536  # NGROUPS_MAX


def load(directory: str) -> oci.Spec:
    """The checked spec of a bundle; bind sources and the root as absolute paths. Raises NotFound, InvalidArgument."""
    bundle = os.path.abspath(directory)
    try:
        bundle.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"the bundle's path {bundle!r} is not UTF-8: no JSON can say where it is") from None
    spec = decode_spec(_read(f"{bundle}/config.json"))
    check(spec)
    assert spec.root is not None
    spec.root.path = _below(bundle, spec.root.path)
    if not os.path.isdir(spec.root.path):
        raise NotFound(f"the root file system {spec.root.path} is not a directory: is the bundle complete?")
    for mount in spec.mounts:
        if mount.source and (mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options):
            mount.source = _below(bundle, mount.source)
    return spec


def _below(bundle: str, path: str) -> str:
    """A relative path in config.json starts at the bundle."""
    return path if path.startswith("/") else f"{bundle}/{path}"


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"JSON specification file {path} not found") from None
    return documents.read(fd, path)


def decode_spec(data: bytes) -> oci.Spec:
    """Raises InvalidArgument with the place in the document."""
    spec = _decoded(data, oci.Spec, "config.json")
    if spec.process is not None:
        _forget_names(spec.process.user)
    return spec


def decode_process(data: bytes) -> oci.Process:
    """A process as `exec --process` takes it. Raises InvalidArgument."""
    process = _decoded(data, oci.Process, "the process")
    _forget_names(process.user)
    check_process(process)
    return process


def _forget_names(user: oci.User) -> None:
    """On Linux the numbers decide (config.md, "POSIX-platform User"); names are our own engine's to look up."""
    user.username, user.additional_groups = "", []


def _decoded(data: bytes, kind: type[_T], what: str) -> _T:
    _check_strings(data, what)
    try:
        return documents.decode(data, kind)
    except DecodeError as error:
        raise InvalidArgument(f"{what} is not what the OCI runtime spec asks for: {error}") from None


def _check_strings(data: bytes, what: str) -> None:
    """Strings end up in system calls: a NUL would cut them short there, half a surrogate pair cannot be written."""
    text = data.replace(b"\\\\", b"//").lower()  # an escaped backslash escapes nothing
    if b"\\u0000" in text or b"\0" in text:
        raise InvalidArgument(f"{what} holds a NUL character")
    if b"\\ud" in text and _has_half_pair(text):
        raise InvalidArgument(f"{what} holds half a surrogate pair (\\ud…), which is no character")


def _has_half_pair(text: bytes) -> bool:
    high = False
    for piece in text.split(b"\\u")[1:]:
        if high != (b"dc00" <= piece[:4] < b"e000"):
            return True
        high = b"d800" <= piece[:4] < b"dc00"
        if high and len(piece) > 4:
            return True
    return high


def check(spec: oci.Spec) -> None:
    """What config.md and config-linux.md demand of the document as a whole. Raises InvalidArgument, Unsupported."""
    version = spec.oci_version.partition(".")
    if version[0] != "1" or not version[2]:
        raise Unsupported(f"ociVersion {spec.oci_version!r} is not one this runtime knows: it knows 1.x")
    if spec.root is None or not spec.root.path:
        raise InvalidArgument("config.json has no root: root.path names the root file system")
    if spec.process is None:
        raise InvalidArgument("config.json has no process")
    if spec.linux is None:
        raise InvalidArgument("config.json has no linux section")
    check_process(spec.process)
    _check_namespaces(spec, spec.linux)
    _check_paths(spec, spec.linux)
    if any(not key for key in spec.annotations):
        raise InvalidArgument("an annotation has an empty key")


def check_process(process: oci.Process) -> None:
    """Raises InvalidArgument for a process that could never run."""
    if not process.args:
        raise InvalidArgument("args must not be empty: process.args names the program")
    if not process.cwd.startswith("/"):
        raise InvalidArgument(f"Cwd must be an absolute path, not {process.cwd!r}")
    for entry in process.env:
        _check_variable(entry)
    user = process.user
    for number in (user.uid, user.gid, *user.additional_gids):
        if not 0 <= number <= MAX_KERNEL_ID:
            raise InvalidArgument(f"user id or group id {number} is out of range: ids go from 0 to {MAX_KERNEL_ID}")
    if len(set(user.additional_gids)) > _MOST_GROUPS:
        raise InvalidArgument(f"there are more than {_MOST_GROUPS} additionalGids: no process can be in so many")
    if user.umask is not None and not 0 <= user.umask <= 0o777:
        raise InvalidArgument(f"umask {user.umask} is out of range: 0 to {0o777}")
    size = process.console_size
    if size is not None and not (0 <= size.height <= 65535 and 0 <= size.width <= 65535):
        raise InvalidArgument("consoleSize is out of range: 0 to 65535")


def _check_variable(entry: str) -> None:
    name, equals, _ = entry.partition("=")
    if not equals:
        raise InvalidArgument(f"invalid environment variable: {entry!r} is not NAME=value")
    if not name:
        raise InvalidArgument(f"environment variable name can't be empty: {entry!r}")


def _check_namespaces(spec: oci.Spec, linux: oci.Linux) -> None:
    kinds = [namespace.type for namespace in linux.namespaces]
    for kind in kinds:
        if kind not in clone.NAMESPACES:
            raise InvalidArgument(f"unknown namespace type: {kind!r}")
        if kinds.count(kind) > 1:
            raise InvalidArgument(f"malformed spec file: duplicated ns {kind}")
    if "mount" not in kinds:
        raise InvalidArgument("the spec has no mount namespace: the container would change the host's mounts")
    for namespace in linux.namespaces:
        if namespace.path and not namespace.path.startswith("/"):
            raise InvalidArgument(f"namespace path {namespace.path!r} is not absolute")
    if (spec.hostname or spec.domainname) and "uts" not in kinds:
        raise InvalidArgument("unable to set hostname without a private UTS namespace")
    if linux.time_offsets and not any(it.type == "time" and not it.path for it in linux.namespaces):
        raise InvalidArgument("timeOffsets need a time namespace that is made: one to join has its own")
    for clock, offset in linux.time_offsets.items():
        if clock not in _CLOCKS or not set(offset) <= {"secs", "nanosecs"}:
            raise InvalidArgument(f"timeOffsets: {clock!r} is not a clock with secs and nanosecs: {', '.join(_CLOCKS)}")
    _check_mappings(linux, next((entry.path for entry in linux.namespaces if entry.type == "user"), None))


def _check_mappings(linux: oci.Linux, path: str | None) -> None:
    mappings = [*linux.uid_mappings, *linux.gid_mappings]
    if mappings and path is None:
        raise InvalidArgument("user namespace mappings are given, but there is no user namespace")
    if path == "" and not (linux.uid_mappings and linux.gid_mappings):
        raise InvalidArgument("a new user namespace needs uidMappings and gidMappings")
    for entry in mappings:
        check_mapping(entry)


def check_mapping(entry: oci.IDMapping) -> None:
    """Raises InvalidArgument for a range of ids that does not fit 32 bits."""
    if min(entry.container_id, entry.host_id) < 0 or entry.size <= 0:
        raise InvalidArgument(f"id mapping {entry.container_id} {entry.host_id} {entry.size}: no such range")
    if max(entry.container_id, entry.host_id) + entry.size - 1 > MAX_KERNEL_ID:
        raise InvalidArgument(f"id mapping {entry.container_id} {entry.host_id} {entry.size}: past {MAX_KERNEL_ID}")


def _check_paths(spec: oci.Spec, linux: oci.Linux) -> None:
    for device in linux.devices:
        if not device.path.startswith("/"):
            raise InvalidArgument(f"device path {device.path!r} is not absolute")
    for path in (*linux.masked_paths, *linux.readonly_paths):
        if not path.startswith("/"):
            raise InvalidArgument(f"masked or read-only path {path!r} is not absolute")
    for mount in spec.mounts:
        if not mount.destination:
            raise InvalidArgument("a mount has no destination")
        for entry in (*mount.uid_mappings, *mount.gid_mappings):
            check_mapping(entry)
    if spec.hooks is not None:
        hooks.check_all(spec.hooks)
