"""A builder without an engine: store, worker, and RUN steps in a chroot on the step's overlay."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sampan.build import rootfs
from sampan.build.builder import Builder
from sampan.build.options import BuildOptions
from sampan.build.step import RunResult, RunStep
from sampan.image import layer
from sampan.image.store import Image, Store
from sampan.image.stream import Source
from sampan.jobs.client import ForkServer
from sampan.linux import paths
from sampan.oci.image import ContainerConfig, ImageConfig

APPLETS = ["sh", "cat", "echo", "ls", "mkdir", "ln", "rm", "touch", "chmod", "id", "pwd", "env", "sed", "true", "false"]


@dataclass(frozen=True)
class Link:
    """A symlink in a context."""

    target: str


@dataclass(frozen=True)
class Item:
    """A file of a context with everything said."""

    data: bytes = b""
    mode: int = 0o644
    kind: bytes = tarfile.REGTYPE
    link: str = ""
    uid: int = 0
    gid: int = 0
    mtime: int = 1_600_000_000
    device: tuple[int, int] = (0, 0)


Files = Mapping[str, "str | bytes | Link | Item | None"]
"""Names to contents; None is a directory."""


def tar(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            item = _item(content)
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.linkname, info.size = item.kind, item.mode, item.link, len(item.data)
            info.uid, info.gid, info.mtime = item.uid, item.gid, item.mtime
            info.devmajor, info.devminor = item.device
            archive.addfile(info, io.BytesIO(item.data))
    return out.getvalue()


def _item(content: str | bytes | Link | Item | None) -> Item:
    if isinstance(content, Item):
        return content
    if isinstance(content, Link):
        return Item(kind=tarfile.SYMTYPE, link=content.target, mode=0o777)
    if content is None:
        return Item(kind=tarfile.DIRTYPE, mode=0o755)
    return Item(content.encode() if isinstance(content, str) else content)


class ChrootRunner:
    """Runs a step's command in a chroot on its overlay: the kernel's own, without the engine's walls."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.steps: list[RunStep] = []

    async def run(self, step: RunStep, output: Callable[[bytes], None]) -> RunResult:
        self.steps.append(step)
        place = tempfile.mkdtemp(dir=self._directory)
        with rootfs.writable(step.lower_dirs, place) as mounted:

            def enter() -> None:
                os.fchdir(mounted.root)
                os.chroot(".")
                os.chdir(step.workdir)

            environment = dict(entry.split("=", 1) for entry in step.env)
            process = subprocess.Popen(
                step.args, env=environment, preexec_fn=enter, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            try:
                assert process.stdout is not None
                reader = asyncio.StreamReader()
                transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                    lambda: asyncio.StreamReaderProtocol(reader), process.stdout
                )
                while data := await reader.read(4096):
                    output(data)
                transport.close()
                code = process.wait()
            except BaseException:
                process.kill()
                process.wait()
                paths.remove_tree(os.open(self._directory, os.O_PATH), os.path.basename(place))
                raise
        return RunResult(code, mounted.upper, step.id)


@dataclass
class Built:
    """What a build said and made."""

    image: Image
    messages: list[dict[str, Any]]

    @property
    def text(self) -> str:
        return "".join(str(message.get("stream", "")) for message in self.messages)

    @property
    def cached(self) -> int:
        return self.text.count(" ---> Using cache\n")

    @property
    def config(self) -> ContainerConfig:
        assert self.image.config.config is not None
        return self.image.config.config

    @property
    def history(self) -> list[tuple[str, bool]]:
        """What each step ran, and whether it left the files alone."""
        return [(it.created_by or "", bool(it.empty_layer)) for it in self.image.config.history or []]


@dataclass
class Yard:
    """A place to build in. `messages` are those of the last build, a failed one too."""

    root: Path
    worker: ForkServer
    store: Store
    runner: ChrootRunner
    builder: Builder
    messages: list[dict[str, Any]] = field(default_factory=list)

    def build(self, dockerfile: str, files: Files | None = None, /, **options: Any) -> Built:
        return self.build_tar(tar({**(files or {}), "Dockerfile": dockerfile}), **options)

    def build_tar(self, data: bytes, **options: Any) -> Built:
        with tempfile.TemporaryFile(dir=self.root) as file:
            file.write(data)
            file.seek(0)
            return self.build_fd(file.fileno(), **options)

    def build_fd(self, fd: int, **options: Any) -> Built:
        self.messages = []
        image_id = asyncio.run(self.builder.build(BuildOptions(**options), fd, self.messages.append))
        return Built(self.store.get(image_id), self.messages)

    @contextmanager
    def files(self, built: Built) -> Iterator[int]:
        """The image's merged tree."""
        with rootfs.readable(self.store.lower_dirs(built.image)) as root:
            yield root

    def read(self, built: Built, path: str) -> bytes:
        with self.files(built) as root:
            return paths.read_file(root, path, 1 << 20)

    def stat(self, built: Built, path: str) -> os.stat_result:
        with self.files(built) as root:
            return paths.lstat(root, path)

    def listing(self, built: Built, top: str = "/") -> list[str]:
        """Every path below `top`."""
        with self.files(built) as root:
            fd = paths.open_in_root(root, top, os.O_RDONLY | os.O_DIRECTORY)
            try:
                found = [
                    os.path.relpath(f"{directory}/{name}", ".")
                    for directory, below, names, _ in os.fwalk(".", dir_fd=fd)
                    for name in [*below, *names]
                ]
            finally:
                os.close(fd)
        return sorted(found)

    def leftovers(self) -> list[str]:
        """What is in the store's place for half-made things, and in the runner's."""
        return os.listdir(self.store.layout.tmp)

    def add_image(self, name: str, files: Files, config: ContainerConfig | None = None) -> Image:
        with tempfile.TemporaryFile(dir=self.root) as file:
            file.write(tar(files))
            file.seek(0)
            ref, _ = layer.unpack(self.store.layout, Source(file.fileno()))
        image = ImageConfig(os="linux", architecture="amd64", config=config, created="2020-01-01T00:00:00Z")
        return self.store.register(image, [ref], [name])

    def add_busybox(self, name: str = "busybox", more: Files | None = None, **config: Any) -> Image:
        files: dict[str, Any] = {"bin": None, "etc": None, "tmp": Item(kind=tarfile.DIRTYPE, mode=0o1777)}
        files["bin/busybox"] = Item(Path("/bin/busybox").read_bytes(), mode=0o755)
        files.update({f"bin/{applet}": Link("busybox") for applet in APPLETS})
        files["etc/passwd"] = "root:x:0:0:root:/:/bin/sh\nwww:x:33:34::/:/bin/sh\n"
        files["etc/group"] = "root:x:0:\nweb:x:35:\n"
        return self.add_image(name, {**files, **(more or {})}, ContainerConfig(**config) if config else None)


@contextmanager
def open_yard(root: Path) -> Iterator[Yard]:
    worker = ForkServer("sampan.build.jobs")
    try:
        asyncio.run(worker.run("build.remove", {"paths": []}))  # it is there before the first test
        store = Store(root / "data")
        runner = ChrootRunner(root)
        yield Yard(root, worker, store, runner, Builder(store, worker, runner, root / "data"))
    finally:
        worker.close()
        fd = os.open(root, os.O_PATH)
        paths.remove_tree(fd, "data")  # trees too deep for others to remove
        os.close(fd)
