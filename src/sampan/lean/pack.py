"""All modules of the cold runtime in one file: a hundred of them are imported for each container.

Python's own way takes 0.1 ms for each: directories listed, a file found, opened, read, and the import system's own
books. Out of one file, in the order that was seen when the pack was made, it takes a third. The pack lies in
__pycache__ and is a .pyc in spirit: made when it is missing by whoever may write there, and a module whose source has
changed since is imported in the usual way.

    magic number of the interpreter's bytecode · length of the file · length of the contents · contents (the index, and
    the order for the first of `_COMMANDS`) · code objects, marshalled one by one
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

    ModuleType = type(sys)

_COMMANDS = ("run", "create", "delete", "exec_", "kill", "start", "state")
_HEADER = 12

Index = dict[str, tuple[bool, int, int, int, int]]
"""Module → (is a package, offset, size, its source's mtime in ns, its source's size)."""


def install(package: str, command: str = "") -> None:
    """From here on import the modules of `package`, sampan's directory, out of its pack; make it if there is none.

    Those of `command` at once, if the pack knows them. Without a pack, and without the right to make one, nothing
    changes.
    """
    path = f"{package}/__pycache__/{sys.implementation.cache_tag}.cold"
    data = _read(path)
    if data is None:
        if not sys.dont_write_bytecode:
            _write(path)  # and with that all of them are imported
        return
    pack = Pack(package, path, data)
    sys.meta_path.insert(0, pack)
    if command == _COMMANDS[0]:
        pack.load_all()


class Pack:
    """A finder and loader (importlib.abc) of the modules in one pack."""

    def __init__(self, package: str, path: str, data: memoryview) -> None:
        length = int.from_bytes(data[8:_HEADER], "little")
        self.package, self.path = package, path
        contents: tuple[Index, list[str]] = marshal.loads(data[_HEADER:_HEADER + length])  # allowed: as any .pyc
        self.index, self.order = contents
        self.codes = data[_HEADER + length:]

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        entry = self.index.get(name)
        if entry is None:
            return None
        return self._spec(name, entry)

    def _spec(self, name: str, entry: tuple[bool, int, int, int, int]) -> ModuleSpec | None:
        """None when the source has changed."""
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

    def load_all(self) -> None:
        """Import the modules of the first command, each behind those it needs. Up to one whose source has changed.

        A package that imports its own modules is complete after them: until then it is there, and empty.
        """
        specs = []
        for name in self.order:
            spec = self._spec(name, self.index[name])
            if spec is None:
                return
            specs.append(spec)
        modules = [self._empty(spec) for spec in specs]
        for module in modules:
            sys.modules[module.__name__] = module
            self.exec_module(module)
            above, _, last = module.__name__.rpartition(".")
            setattr(sys.modules[above], last, module)

    def _empty(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.__spec__, module.__file__, module.__package__ = spec, spec.origin, spec.parent
        module.__loader__ = self  # type: ignore[assignment]
        if spec.submodule_search_locations is not None:
            module.__path__ = spec.submodule_search_locations
            sys.modules[spec.name] = module
        return module

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


def _write(path: str) -> None:
    """Compile and write the pack, whole or not at all; not where we may not write.

    Without docstrings and asserts (python -OO): a fifth less to read. The asserts here are for the type checker.
    """
    index: Index = {}
    codes = b""
    order = _import_all()
    for name in sorted({*order, *(name for name in sys.modules if name.startswith("sampan."))}):
        module = sys.modules[name]
        source = module.__file__ or ""
        with open(source, "rb") as file:
            status = os.fstat(file.fileno())
            code = marshal.dumps(compile(file.read(), source, "exec", dont_inherit=True, optimize=2))
        index[name] = (hasattr(module, "__path__"), len(codes), len(code), status.st_mtime_ns, status.st_size)
        codes += code
    head = marshal.dumps((index, order))
    temporary = f"{path}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError:
        return  # not ours to write: the usual way it is
    try:
        with open(fd, "wb") as file:
            lengths = (_HEADER + len(head) + len(codes), len(head))
            file.write(_magic() + b"".join(length.to_bytes(4, "little") for length in lengths) + head + codes)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)  # a full disk: the next program tries again


def _import_all() -> list[str]:
    """Import what the commands of a container's life need; the modules of the first in the order they were complete."""
    recorder = _Recorder()
    sys.meta_path.insert(0, recorder)
    try:
        for command in ("main", *_COMMANDS):
            __import__(f"sampan.runtime.command.{command}")
            if command == _COMMANDS[0]:
                order = [name for name in recorder.complete if name.startswith("sampan.")]
    finally:
        sys.meta_path.remove(recorder)
    return order


class _Recorder:
    """Notes modules as they are complete. Finds nothing itself."""

    def __init__(self) -> None:
        self.complete: list[str] = []

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)  # type: ignore[arg-type]
            if spec is not None:
                self._note_the_end(spec, name)
                return spec
        return None

    def _note_the_end(self, spec: ModuleSpec, name: str) -> None:
        loader = spec.loader
        execute = getattr(loader, "exec_module", None)
        if execute is None or not name.startswith("sampan."):
            return

        def noted(module: ModuleType) -> None:
            execute(module)
            self.complete.append(name)

        loader.exec_module = noted  # type: ignore[method-assign, union-attr]
