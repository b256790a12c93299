"""Modules of programs that live 30 ms, out of one file: a hundred of them are imported for each container.

Python's own way takes 0.1 ms for each: directories listed, a file found, opened, read, and the import system's own
books. A pack is a .pyc that the interpreter can run: made (packing.py) when it is missing by whoever may write there,
and not used any more when a source has changed since.

    16 bytes       header as of any .pyc; its last 8 bytes: where the contents begin, how long they are
    code           boot.py
    contents       this module's code, by which a program reads the rest, and `Contents`
    code objects   one by one, and in groups: all that a module imports and its importer has not, in the order of need

Importing the first of a group executes all of it. The file stays open: a new process in namespaces of its own, which
has lost its rights to the host's files, can still import what it needs.
"""

from __future__ import annotations

import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
else:
    from _frozen_importlib import ModuleSpec

    ModuleType = type(sys)

Entry = tuple[str, bool, int, int, int, int]
"""(source below the package, is a package, offset, size, the source's mtime in ns, its size); offsets are from the end
of the contents.
"""
Group = tuple[int, int, tuple[str, ...]]
"""(offset, size, its modules, the one it is called by last)."""
Contents = tuple[str, tuple[str, ...], str, dict[str, Entry], dict[str, Group], dict[str, str]]
"""(the package's directory, sys.path, the module whose `main` is the program, its modules, groups, and the files of the
interpreter's libraries).
"""


def start(fd: int, behind: int, contents: Contents) -> None:
    """Run the program of the pack at `fd`, its modules out of the pack. `behind`: where the contents end.

    With --debug out of their sources, for the line numbers in what goes wrong.
    """
    _, path, program, *_ = contents
    sys.path[:0] = path
    pack = Pack(fd, behind, contents)
    if "--debug" in sys.argv or not pack.is_current(__name__):
        del sys.modules[__name__]
    else:
        sys.meta_path.insert(0, pack)
        pack.adopt(sys.modules[__name__])
    __import__(program)
    sys.modules[program].main()


def vouch(name: str) -> bool:
    """Whether the group of a module can be imported out of a pack, from now on without a look at any other file."""
    return any(isinstance(finder, Pack) and finder.vouch(name) for finder in sys.meta_path)


class Pack:
    """A finder and loader (importlib.abc) of the modules in one pack."""

    def __init__(self, fd: int, behind: int, contents: Contents) -> None:
        self.fd, self.behind = fd, behind
        self.package, _, _, self.index, self.groups, self.libraries = contents
        self._codes: dict[str, CodeType] = {}
        self._vouched: set[str] = set()

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name in self.libraries:
            return self._library(name)
        if name in self.groups:
            self._execute_group(name)
        return self._spec(name) if self.is_current(name) else None

    def vouch(self, name: str) -> bool:
        """Look now whether the sources of a group are as they were, and not again."""
        names = self.groups[name][2] if name in self.groups else ()
        if not names or not all(map(self.is_current, names)):
            return False
        self._vouched.update(names)
        return True

    def is_current(self, name: str) -> bool:
        """Whether a module is here, its source unchanged; if that has changed, the next program makes a new pack."""
        entry = self.index.get(name)
        if entry is None or name in self._vouched:
            return entry is not None
        try:
            status = posix.stat(f"{self.package}/{entry[0]}")
        except OSError:
            return False
        if (status.st_mtime_ns, status.st_size) == entry[4:]:
            return True
        try:
            posix.unlink(sys.modules["__main__"].__file__ or "")
        except OSError:
            pass  # it was gone already, or is not ours to change: slower, but right
        return False

    def _spec(self, name: str) -> ModuleSpec:
        source, is_package = self.index[name][:2]
        source = f"{self.package}/{source}"
        spec = ModuleSpec(name, self, origin=source, is_package=is_package)  # type: ignore[arg-type]
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations = [source.rpartition("/")[0]]
        return spec

    def _library(self, name: str) -> ModuleSpec | None:
        """Without a look into each directory of sys.path."""
        from _frozen_importlib_external import ExtensionFileLoader

        path = self.libraries[name]
        try:
            posix.stat(path)
        except OSError:
            return None
        return ModuleSpec(name, ExtensionFileLoader(name, path), origin=path)

    def _execute_group(self, name: str) -> None:
        """Import the modules that `name` needs, each behind those it needs itself; not when a source has changed.

        A package that imports its own modules is complete after them: until then it is there, and empty.
        """
        offset, size, members = self.groups[name]
        names = [each for each in members if each not in sys.modules]
        if not all(map(self.is_current, names)):
            return
        codes: dict[str, CodeType] = marshal.loads(posix.pread(self.fd, size, self.behind + offset))  # allowed: .pyc
        self._codes = {name: codes[name]}
        modules = [self._empty(each) for each in names if each != name]
        for module in modules:
            name = module.__name__
            sys.modules[name] = module
            exec(codes[name], module.__dict__)  # allowed: what importing is
            above, _, last = name.rpartition(".")
            if above:
                setattr(sys.modules[above], last, module)

    def _empty(self, name: str) -> ModuleType:
        module = ModuleType(name)
        if self.adopt(module).submodule_search_locations is not None:
            sys.modules[name] = module
        return module

    def adopt(self, module: ModuleType) -> ModuleSpec:
        """Give a module what the import system gives it."""
        spec = module.__spec__ = self._spec(module.__name__)
        module.__file__, module.__package__ = spec.origin, spec.parent
        module.__loader__ = self  # type: ignore[assignment]
        if spec.submodule_search_locations is not None:
            module.__path__ = spec.submodule_search_locations
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual kind of module."""

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        code = self._codes.pop(name, None)
        if code is None:
            _, _, offset, size, _, _ = self.index[name]
            code = marshal.loads(posix.pread(self.fd, size, self.behind + offset))  # allowed: as any .pyc
        exec(code, module.__dict__)  # allowed: what importing is
