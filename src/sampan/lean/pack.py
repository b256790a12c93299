"""All modules of the cold runtime in one file: a hundred of them are imported for each container.

Python's own way takes 0.1 ms for each (directories listed, a file found, opened, read); one file for all takes a third.
The pack lies in __pycache__ and is a .pyc in spirit: made when it is missing by whoever may write there, and a module
whose source has changed since is imported in the usual way.

    magic number of the interpreter's bytecode · length of the file · length of the index · index ·
    code objects, marshalled one by one
"""

from __future__ import annotations

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
else:
    from _frozen_importlib import ModuleSpec

_COMMANDS = ("create", "delete", "exec_", "kill", "run", "start", "state")
_HEADER = 12

Index = dict[str, tuple[bool, int, int, int, int]]
"""Module → (is a package, offset, size, its source's mtime in ns, its source's size)."""


def install(package: str) -> None:
    """From here on import the modules of `package`, sampan's directory, out of its pack; make it if there is none.

    Without one, and without the right to make one, nothing changes.
    """
    path = f"{package}/__pycache__/{sys.implementation.cache_tag}.cold"
    data = _read(path)
    if data is None:
        if sys.dont_write_bytecode or not _write(path):
            return
        data = _read(path)
    if data is not None:
        sys.meta_path.insert(0, Pack(package, path, data))


class Pack:
    """A finder and loader (importlib.abc) of the modules in one pack."""

    def __init__(self, package: str, path: str, data: memoryview) -> None:
        length = int.from_bytes(data[8:_HEADER], "little")
        self.package, self.path = package, path
        self.index: Index = marshal.loads(data[_HEADER:_HEADER + length])  # allowed: as any .pyc
        self.codes = data[_HEADER + length:]

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        entry = self.index.get(name)
        if entry is None:
            return None
        source = _source(self.package, name, entry[0])
        try:
            status = os.stat(source)
        except OSError:
            return None
        if (status.st_mtime_ns, status.st_size) != entry[3:]:
            self._forget()
            return None
        spec = ModuleSpec(name, self, origin=source, is_package=entry[0])  # type: ignore[arg-type]
        spec.has_location = True
        if entry[0]:
            spec.submodule_search_locations = [source.rpartition("/")[0]]
        return spec

    def _forget(self) -> None:
        """The next program makes a new pack."""
        try:
            os.unlink(self.path)
        except OSError:
            pass  # it was gone already, or is not ours to change: slower, but right

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual kind of module."""

    def exec_module(self, module: ModuleType) -> None:
        _, offset, size, _, _ = self.index[module.__name__]
        code: CodeType = marshal.loads(self.codes[offset:offset + size])  # allowed: as any .pyc
        exec(code, module.__dict__)  # allowed: what importing is


def _source(package: str, name: str, is_package: bool) -> str:
    path = name.partition(".")[2].replace(".", "/")
    return f"{package}/{path}/__init__.py" if is_package else f"{package}/{path}.py"


def _read(path: str) -> memoryview | None:
    """None when it is missing, torn, or another interpreter's."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.read(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)
    whole = data[:4] == _magic() and int.from_bytes(data[4:8], "little") == len(data)
    return memoryview(data) if whole else None


def _magic() -> bytes:
    from _frozen_importlib_external import MAGIC_NUMBER

    return MAGIC_NUMBER


def _write(path: str) -> bool:
    """Compile and write the pack, whole or not at all. False where it cannot be written."""
    index: Index = {}
    codes = b""
    for source, name, is_package in _modules():
        with open(source, "rb") as file:
            status = os.fstat(file.fileno())
            code = marshal.dumps(compile(file.read(), source, "exec", dont_inherit=True))
        index[name] = (is_package, len(codes), len(code), status.st_mtime_ns, status.st_size)
        codes += code
    head = marshal.dumps(index)
    temporary = f"{path}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError:
        return False
    try:
        with open(fd, "wb") as file:
            lengths = (_HEADER + len(head) + len(codes), len(head))
            file.write(_magic() + b"".join(length.to_bytes(4, "little") for length in lengths) + head + codes)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        return False
    return True


def _modules() -> list[tuple[str, str, bool]]:
    """(source file, module's name, is a package) of every module that the commands of a container's life import."""
    for command in ("main", *_COMMANDS):
        __import__(f"sampan.runtime.command.{command}")
    loaded = ((name, module) for name, module in sys.modules.items() if name.startswith("sampan."))
    return [(module.__file__ or "", name, hasattr(module, "__path__")) for name, module in sorted(loaded)]
