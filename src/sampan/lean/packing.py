"""Making a pack (pack.py): once for each interpreter and each state of the sources."""

from __future__ import annotations
import __future__

import ast
import marshal
import os
import sys

from sampan.lean import mappings, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import CodeType

_PACKAGE = __name__.partition(".")[0]
_HEADER = 16


def run(launcher: str, program: str, others: Sequence[str], umask: int = -1) -> None:
    """Run `program`'s `main`, and before that make its pack in the __pycache__ beside the launcher, if we may.

    `umask` is the program's own, where the launcher has set one that keeps others from writing what is made until then.

    In the pack is what the program and `others` import as they are imported.
    """
    directory, name = os.path.split(os.path.abspath(launcher))
    interpreter = os.path.realpath(sys.executable)  # allowed: our own program
    if not sys.dont_write_bytecode and interpreter == f"/usr/bin/python3.{sys.version_info[1]}":
        for module in (program, *others):
            __import__(module)
        _write(f"{directory}/__pycache__/{name}.{os.path.basename(interpreter)}.pyc", _pack(program))
    __import__(program)
    if umask >= 0:
        os.umask(umask)
    sys.modules[program].main()


def _pack(program: str) -> bytes:
    package = os.path.dirname(_file(_PACKAGE))
    modules: dict[str, pack.Entry] = {}
    codes = b""
    for name in _names():
        source = _file(name)
        code, status = marshal.dumps(_compiled(source)), os.stat(source)
        modules[name] = (
            os.path.relpath(source, package), hasattr(sys.modules[name], "__path__"), len(codes), len(code),
            status.st_mtime_ns, status.st_size,
        )
        codes += code
    path = (os.path.dirname(package), *(path for path in sys.path if "/site-packages" in path))
    contents: pack.Contents = (package, path, program, modules, _libraries())
    return _assembled(marshal.dumps((_compiled(_file(pack.__name__)), contents)), codes)


def _assembled(contents: bytes, codes: bytes) -> bytes:
    from _frozen_importlib_external import MAGIC_NUMBER

    boot = marshal.dumps(_compiled(_file(pack.__name__).replace("pack.py", "boot.py")))
    place = (_HEADER + len(boot)).to_bytes(4, "little") + len(contents).to_bytes(4, "little")
    return MAGIC_NUMBER + bytes(4) + place + boot + contents + codes


def _file(name: str) -> str:
    return sys.modules[name].__file__ or ""


def _names() -> list[str]:
    """Our modules, and those of the standard library that they import as they are imported: packages first."""
    found = {name for name in sys.modules if name.partition(".")[0] == _PACKAGE} - {__name__} | {mappings.__name__}
    return sorted({each for name in found for each in _imported(_tree(_file(name)).body) if _is_source(each)} | found)


def _is_source(name: str) -> bool:
    """Not built in, frozen into the interpreter, or compiled."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return type(spec.loader).__name__ == "SourceFileLoader" if spec is not None else False


def _imported(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module and statement.module != "__future__":
            yield statement.module


def _tree(source: str) -> ast.Module:
    with open(source, "rb") as file:
        return ast.parse(file.read())


class _Bare(ast.NodeTransformer):
    """Takes out what is for readers and for the type checker; half as much is left to read and to execute.

    `if TYPE_CHECKING`, the annotations of functions and variables (not those of classes: they are the members of
    records and structs), and `from __future__ import annotations`, for which a module would be imported.
    """

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        return None if node.module == "__future__" else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return (node.orelse or ast.Pass()) if ast.unparse(node.test) == "TYPE_CHECKING" else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        node.body = [self._plain(each) for each in node.body]
        self.generic_visit(node)
        return node

    def visit_Module(self, node: ast.Module) -> ast.Module:
        node.body = [self._plain(each) for each in node.body]
        self.generic_visit(node)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def _plain(self, node: ast.stmt) -> ast.stmt:
        if not isinstance(node, ast.AnnAssign):
            return node
        plain = ast.Pass() if node.value is None else ast.Assign([node.target], node.value)
        return ast.copy_location(plain, node)


def _compiled(source: str) -> CodeType:
    """Without docstrings and asserts (python -OO; the asserts are for the type checker) and without line numbers."""
    tree = ast.fix_missing_locations(_Bare().visit(_tree(source)))
    flags = __future__.annotations.compiler_flag
    code: CodeType = compile(tree, source, "exec", flags, dont_inherit=True, optimize=2)
    return _without_lines(code)


def _without_lines(code: CodeType) -> CodeType:
    constants = tuple(_without_lines(it) if isinstance(it, type(code)) else it for it in code.co_consts)
    return code.replace(co_linetable=b"", co_qualname=code.co_name, co_consts=constants)


def _libraries() -> dict[str, str]:
    """The interpreter's own, not those of packages."""
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if file.endswith(".so") and "." not in name and "/site-packages/" not in file:
            found[name] = file
    return found


def _write(path: str, data: bytes) -> None:
    """Whole or not at all: other programs read it at the same time. Not where we may not write."""
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError:
        return  # the usual way it is
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)  # a full disk: the next program tries again
