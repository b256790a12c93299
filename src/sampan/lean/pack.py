"""Modules of programs that live 30 ms, out of one file: a hundred of them are imported for each container.

Python's own way takes 0.1 ms for each: directories listed, a file found, opened, read, and the import system's own
books. A pack is a .pyc that the interpreter can run: made (packing.py) when it is missing by whoever may write there,
and not used any more when a source has changed since.

    16 bytes       header as of any .pyc; its last 8 bytes: where the contents begin, how long they are
    code           boot.py
    contents       this module's code, by which a program reads the rest, and `Contents`
    code objects   of each module

All of it is read at once. A module is there from the start and executed when something of it is wanted for the first
time: what a container does not need costs it nothing, and what its first process needs that process executes itself,
while the runtime goes on. That is no import: no file is looked for or opened, whatever namespaces it is in by then.
"""

from __future__ import annotations

import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
else:
    from _frozen_importlib import ModuleSpec

    ModuleType = type(sys)

Entry = tuple[str, bool, int, int, int, int]
"""(source below the package, is a package, offset, size, the source's mtime in ns, its size); offsets are from the end
of the contents.
"""
Contents = tuple[str, tuple[str, ...], str, dict[str, Entry], dict[str, str]]
"""(the package's directory, sys.path, the module whose `main` is the program, the modules, packages before what lies in
them, and the files of the interpreter's libraries).
"""


def start(fd: int, behind: int, contents: Contents) -> None:
    """Run the program of the pack at `fd`, its modules out of the pack. `behind`: where the contents end.

    With --debug out of their sources, for the line numbers in what goes wrong.
    """
    package, path, program, modules, libraries = contents
    sys.path[:0] = path
    if "--debug" in sys.argv:
        del sys.modules[__name__]
    elif is_current(package, modules):
        codes = memoryview(posix.pread(fd, 1 << 30, behind))
        for name, entry in modules.items():
            _register(name, f"{package}/{entry[0]}", entry[1], codes[entry[2]:entry[2] + entry[3]])
        sys.meta_path.insert(0, Libraries(libraries))
        _import_standard()
    else:
        del sys.modules[__name__]
        try:
            posix.unlink(sys.modules["__main__"].__file__ or "")  # the next program makes a new pack
        except OSError:
            pass  # it was gone already, or is not ours to change: slower, but right
    posix.close(fd)
    __import__(program)
    sys.modules[program].main()


def _import_standard() -> None:
    """`os` without the abstract classes it brings (mappings.py), `struct` without the file of Python around it."""
    if "os" not in sys.modules:
        sys.modules["_collections_abc"] = sys.modules["sampan.lean.mappings"]
        __import__("os")
        del sys.modules["_collections_abc"]
    sys.modules["struct"] = __import__("_struct")


def is_current(package: str, modules: dict[str, Entry]) -> bool:
    """Whether all sources are as they were."""
    try:
        for source, _, _, _, mtime, size in modules.values():
            status = posix.stat(f"{package}/{source}")
            if status.st_mtime_ns != mtime or status.st_size != size:
                return False
    except OSError:
        return False
    return True


def _register(name: str, file: str, is_package: bool, code: memoryview) -> None:
    above, _, last = name.rpartition(".")
    module = sys.modules.get(name)  # this one
    if module is None:
        module = sys.modules[name] = Waiting(name)
        module.__dict__["__code__"] = code
    module.__file__, module.__package__ = file, name if is_package else above
    if is_package:
        module.__path__ = [file.rpartition("/")[0]]
    if above:
        setattr(sys.modules[above], last, module)


class Waiting(ModuleType):
    """A module that is executed when something is asked of it that only then is there."""

    def __getattr__(self, name: str) -> object:
        self.__class__ = ModuleType  # type: ignore[assignment]  # whoever asks meanwhile, it itself too, finds it half-made, as in any import
        code = marshal.loads(self.__dict__.pop("__code__"))  # allowed: as any .pyc
        exec(code, self.__dict__)  # allowed: what importing is
        return getattr(self, name)


class Libraries:
    """Finds the interpreter's own libraries (importlib.abc.MetaPathFinder) without a look into each directory."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        file = self.files.get(name)
        if file is None:
            return None
        from _frozen_importlib_external import ExtensionFileLoader

        try:
            posix.stat(file)
        except OSError:
            return None
        return ModuleSpec(name, ExtensionFileLoader(name, file), origin=file)
