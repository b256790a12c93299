"""The file jobs of images and container roots, run by the fork server `engine/worker.py` in a process of their own.

Each works in tmp/ and renames at the end, so it may be killed at any moment. Descriptors of the request may be
non-blocking. `root` is what image/rootfs.py describes. Progress: `{"status", "id", "current", "total"}`, bytes.
"""

from __future__ import annotations

import os
import resource
import select
import stat
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from sampan.errors import InvalidArgument, NotFound
from sampan.image import changes, layer, load, rootfs, save, size
from sampan.image.layout import Layout
from sampan.image.pack import Packer, PackRules
from sampan.image.stream import Source
from sampan.image.tar.read import Reader
from sampan.image.unpack import Rules, Unpacker
from sampan.jobs.forkserver import Channel
from sampan.linux import paths

_INTERVAL = 0.1  # seconds between two progress messages
_BATCH = 500
_DIR = os.O_RDONLY | os.O_DIRECTORY


def import_tar(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """fds[0]: a root file system as tar, plain or compressed. args: data_root. → a LayerRef's members, `warnings`."""
    _prepare(fds)
    source = Source(fds[0])
    source.on_progress = _Meter(channel, "Importing").at
    ref, warnings = layer.unpack(_layout(args), source)
    return {**msgspec.to_builtins(ref), "warnings": warnings}


def load_images(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """fds[0]: a docker-archive or OCI archive. args: data_root. → images: [{manifest, id, names}] for Store.adopt."""
    _prepare(fds)
    meter = _Meter(channel, "Loading layer")
    loaded = load.load(_layout(args), Source(fds[0]), meter.of_layer)
    return {"images": msgspec.to_builtins(loaded)}


def save_images(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """fds[0]: where the archive goes. args: data_root, images: [{manifest, names}]. → {}"""
    _prepare(fds)
    save.save(Layout(args["data_root"]), msgspec.convert(args["images"], list[save.Saved]), _writer(fds[0]))
    return {}


def commit_layer(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """args: data_root, upper (a path), move (bool: it becomes the layer's). → a LayerRef's members, `warnings`.

    Without `move` the upper directory may be in use and is copied.
    """
    _prepare(fds)
    meter = _Meter(channel, "Committing")
    ref, warnings = layer.commit(_layout(args), args["upper"], bool(args["move"]), meter.at)
    return {**msgspec.to_builtins(ref), "warnings": warnings}


def extract(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """fds[0]: any tar. args: root, path (a directory inside it), and optionally owner [uid, gid] (else the archive's),
    same_kind (refuse to replace a directory by a file or the reverse), create (make the directory). → size, warnings

    Raises NotFound and InvalidArgument ("extraction point is not a directory") with Docker's words.
    """
    _prepare(fds)
    owner = args.get("owner")
    rules = Rules(owner=(owner[0], owner[1]) if owner else None, same_kind=bool(args.get("same_kind")))
    with rootfs.writable(args["root"], fds) as root:
        if args.get("create"):
            paths.make_dirs(root, args["path"], 0o755, *(rules.owner or (0, 0)))
        target = _directory(root, args["path"])
        try:
            unpacker = Unpacker(target, rules)
            source = Source(fds[0])
            source.on_progress = _Meter(channel, "Extracting").at
            unpacker.run(Reader(source.chunk))
        finally:
            os.close(target)
    return {"size": unpacker.size, "warnings": unpacker.warnings}


def pack(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """fds[0]: where the tar goes. args: root, path, and optionally name (of the top entry; default: the path's last
    component as it was asked for, as Docker does; "" leaves the top entry out, for export), one_filesystem (leave out
    what is mounted inside). → size, warnings

    A symlink as last component is archived as itself, unless the path ends in "/" or "/.". Raises NotFound.
    """
    _prepare(fds)
    path = args["path"]
    packer = Packer(_writer(fds[0]), PackRules(one_filesystem=bool(args.get("one_filesystem"))))
    with rootfs.readable(args["root"], fds) as root:
        parent, name = _parent(root, path)
        try:
            archived = os.fsencode(args.get("name", _asked_name(path)))
            if name == "." or not archived:
                _pack_directory(packer, parent, name, archived)
            else:
                packer.path(parent, os.fsencode(name), archived)
        finally:
            os.close(parent)
    packer.finish()
    return {"size": packer.size, "warnings": packer.warnings}


def stat_path(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """args: root, path. → name, size, mode (st_mode), mtime (ns), link_target (where a symlink leads inside the root).

    Raises NotFound.
    """
    with rootfs.readable(args["root"], fds) as root:
        parent, name = _parent(root, args["path"])
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)
        target = paths.real_path(root, args["path"]) if stat.S_ISLNK(found.st_mode) else ""
    return {
        "name": _asked_name(args["path"]), "size": found.st_size, "mode": found.st_mode, "mtime": found.st_mtime_ns,
        "link_target": target,
    }


def list_changes(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """args: root (an overlay). Progress: {"changes": [[path, kind], …]} in batches, sorted. → count"""
    root = args["root"]
    upper = os.open(root["upper"], _DIR | os.O_CLOEXEC)
    lower = rootfs.layers(root["lower"])
    try:
        found = changes.changes(upper, lower)
    finally:
        os.close(upper)
        os.close(lower)
    for start in range(0, len(found), _BATCH):
        batch = found[start : start + _BATCH]
        channel.progress({"changes": [[_shown(change.path), int(change.kind)] for change in batch]})
    return {"count": len(found)}


def remove_tree(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """args: path of a directory or file of ours; nothing there is no error. → {}"""
    parent, _, name = args["path"].rstrip("/").rpartition("/")
    directory = os.open(parent or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        paths.remove_tree(directory, name)
    finally:
        os.close(directory)
    return {}


def tree_size(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """args: path of a directory of ours. → size: bytes of all files in it, a file with several names once."""
    directory = os.open(args["path"], _DIR | os.O_CLOEXEC)
    try:
        return {"size": size.tree_size(directory)}
    finally:
        os.close(directory)


def sweep(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """args: data_root, names of things in its tmp/ (Store.leftovers, Garbage.names). → {}"""
    layout = Layout(args["data_root"])
    for name in args["names"]:
        layout.remove_temporary(name)
    return {}


def _layout(args: dict[str, Any]) -> Layout:
    """args: data_root, and optionally workspace: a directory in its tmp/, made by the asker, for half-made things."""
    layout = Layout(args["data_root"])
    if args.get("workspace"):
        layout.tmp = f"{layout.tmp}/{args['workspace']}"
    return layout


JOBS: dict[str, Callable[[Channel, dict[str, Any], list[int]], dict[str, Any]]] = {
    "image.import_tar": import_tar,
    "image.load": load_images,
    "image.save": save_images,
    "image.commit_layer": commit_layer,
    "image.extract": extract,
    "image.pack": pack,
    "image.stat": stat_path,
    "image.changes": list_changes,
    "image.remove_tree": remove_tree,
    "image.tree_size": tree_size,
    "image.sweep": sweep,
}


class _Meter:
    """Progress messages, not more than ten a second."""

    def __init__(self, channel: Channel, status: str) -> None:
        self._channel = channel
        self._status = status
        self._last = 0.0

    def at(self, current: int) -> None:
        self._tell("", current, None)

    def of_layer(self, diff_id: str, current: int, total: int) -> None:
        self._tell(diff_id.removeprefix("sha256:")[:12], current, total)

    def _tell(self, what: str, current: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._last >= _INTERVAL or current == total:
            self._last = now
            self._channel.progress({"status": self._status, "id": what, "current": current, "total": total})


def _prepare(fds: Iterable[int]) -> None:
    """Modes as archived; a descriptor per level of a deep tree; descriptors that wait."""
    os.umask(0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192) if hard != resource.RLIM_INFINITY else 8192, hard))


def _writer(fd: int) -> Callable[[bytes], None]:
    """Writes everything. The descriptor's description is shared with the asker, so it is not made blocking here."""

    def out(data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                ready = select.poll()
                ready.register(fd, select.POLLOUT)
                ready.poll()

    return out


def _directory(root: int, path: str) -> int:
    try:
        return paths.open_in_root(root, path, _DIR)
    except FileNotFoundError as error:
        raise _not_found(path) from error
    except NotADirectoryError as error:
        raise InvalidArgument("extraction point is not a directory") from error


def _parent(root: int, path: str) -> tuple[int, str]:
    """The directory and the name of something that is there."""
    try:
        parent, name = paths.open_parent(root, path, follow=path.endswith(("/", "/.")))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _not_found(path) from error
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError as error:
        os.close(parent)
        raise _not_found(path) from error
    return parent, name


def _asked_name(path: str) -> str:
    """The last component as asked for, not as resolved: "/" for the root, "." for "dir/."."""
    return path.rstrip("/").rpartition("/")[2] or "/"


def _pack_directory(packer: Packer, parent: int, name: str, archived: bytes) -> None:
    """A directory whose top entry is the root's or left out."""
    fd = os.open(name, _DIR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        top = archived.rstrip(b"/") + b"/" if archived else b""
        if top:
            packer.directory(fd, top)
        packer.tree(fd, top)
    finally:
        os.close(fd)


def _not_found(path: str) -> NotFound:
    return NotFound(f"Could not find the file {path}")


def _shown(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

