"""Security is the code's shape: what must not be written in some rooms, found in the syntax tree.

The classes are those of past escapes: a path resolved as a string; something loaded or run after entering a
container's root; state that two requests share. Where a line is right all the same it says why on the spot:
`# allowed: REASON` (for a path: nobody outside chose any part of it).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "sampan"

FACES_OUTSIDE = {"image", "build", "runtime", "shim", "jobs"}
"""Rooms that handle paths of containers, images, archives and build contexts."""

IN_A_CONTAINER = {"linux", "oci", "jobs", "runtime", "shim"}
"""Rooms whose code runs, or stays loaded, inside a container's namespaces."""

PATH_CALLS = {
    "open", "os.open", "os.stat", "os.lstat", "os.mkdir", "os.makedirs", "os.mknod", "os.mkfifo", "os.symlink",
    "os.link", "os.unlink", "os.remove", "os.rmdir", "os.rename", "os.replace", "os.chmod", "os.chown", "os.lchown",
    "os.utime", "os.truncate", "os.listdir", "os.scandir", "os.walk", "os.readlink", "os.getxattr", "os.setxattr",
    "os.removexattr", "os.listxattr", "os.chdir", "os.chroot", "os.access", "os.path.exists", "os.path.isdir",
    "os.path.isfile", "os.path.islink", "os.path.lexists", "os.path.realpath", "shutil.rmtree", "shutil.copy",
    "shutil.copyfile", "shutil.copytree", "shutil.move",
}
PATH_METHODS = {
    "open", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "unlink", "rmdir", "rename", "replace",
    "symlink_to", "hardlink_to", "stat", "lstat", "exists", "is_dir", "is_file", "is_symlink", "iterdir", "glob",
    "rglob", "chmod", "resolve", "touch",
}
KERNEL_FILES = ("/proc/", "/sys/", "/dev/")

BANNED_CALLS = {
    "os.system": "no shell",
    "os.popen": "no shell",
    "eval": "no code from data",
    "exec": "no code from data",
    "pickle.loads": "no code from data",
    "marshal.loads": "no code from data",
    "os.path.join": "resolve it: linux/paths.py",
    "os.path.realpath": "resolve it: linux/paths.py",
    "os.path.expanduser": "reads /etc/passwd",
    "time.sleep": "wait for the event",
}
BANNED_LIBRARIES = {
    "tarfile": "its filters were escaped (CVE-2025-4517)",
    "pickle": "runs what it reads",
    "shelve": "runs what it reads",
}
LOADED_LATE = {"pwd", "grp", "locale", "getpass"}
"""They load or read something when used: in a container's root that would be the container's (CVE-2019-14271)."""

MAX_FILE, MAX_FUNCTION = 450, 70
"""Lines. The aim is 400 and 60."""


@dataclass(frozen=True)
class Module:
    """One source file and its syntax tree."""

    name: str
    room: str
    lines: list[str]
    tree: ast.Module
    nodes: list[ast.AST]

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Every call with the dotted name it is made by ("" for anything else)."""
        for node in self.nodes:
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else "", node

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in self.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def allowed(self, node: ast.AST) -> bool:
        first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", 1)
        return any("# allowed: " in line for line in self.lines[first - 1 : last])


@cache
def _modules() -> tuple[Module, ...]:
    modules = []
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE)
        text = path.read_text()
        tree = ast.parse(text, str(path))
        nodes = list(ast.walk(tree))
        modules.append(Module(str(name), name.parts[0].removesuffix(".py"), text.splitlines(), tree, nodes))
    return tuple(modules)


def _in(*rooms: str) -> Iterator[Module]:
    return (module for module in _modules() if module.room in rooms)


Findings = list[tuple[Module, ast.AST, str]]


def _none(findings: Findings) -> None:
    said = [
        f"{module.name}:{getattr(node, 'lineno', 1)}: {text}"
        for module, node, text in findings
        if not module.allowed(node)
    ]
    assert not said, "\n" + "\n".join(said)


def _joined(node: ast.expr) -> bool:
    """Whether an expression puts a path together out of parts (one that starts in the kernel's own files is none)."""
    if isinstance(node, ast.JoinedStr):
        return not (node.values and _kernel_file(node.values[0]))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Div | ast.Mod):
        return not _kernel_file(node.left)
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Path", "pathlib.Path", "os.path.join"):
        return len(node.args) > 1 or any(_joined(argument) for argument in node.args)
    return False


def _kernel_file(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and str(node.value).startswith(KERNEL_FILES)


def _suspects(name: str, call: ast.Call) -> list[ast.expr]:
    """The arguments of a call that the kernel will take for paths by name."""
    if any(keyword.arg == "dir_fd" for keyword in call.keywords):
        return []
    if name in PATH_CALLS:
        return call.args[:2]
    if isinstance(call.func, ast.Attribute) and call.func.attr in PATH_METHODS:
        return [call.func.value]
    return []


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    return set()


def test_no_joined_path_is_handed_to_the_kernel() -> None:
    _none([
        (module, call, ast.unparse(call))
        for module in _in(*FACES_OUTSIDE)
        for name, call in module.calls()
        if any(_joined(argument) for argument in _suspects(name, call))
    ])


def test_no_banned_call() -> None:
    findings: Findings = []
    for module in _modules():
        for name, call in module.calls():
            if name in BANNED_CALLS:
                findings.append((module, call, f"{name}: {BANNED_CALLS[name]}"))
            if name.startswith("subprocess") and any(keyword.arg == "shell" for keyword in call.keywords):
                findings.append((module, call, f"{name}: no shell"))
    _none(findings)


def test_only_the_command_line_exits() -> None:
    _none([
        (module, call, "raise an error of sampan.errors instead")
        for module in _modules()
        if module.room != "cli"
        for name, call in module.calls()
        if name in ("sys.exit", "SystemExit")
    ])


def test_no_banned_library() -> None:
    findings: Findings = []
    for module in _modules():
        banned = dict(BANNED_LIBRARIES)
        if module.room in IN_A_CONTAINER | FACES_OUTSIDE:
            banned |= dict.fromkeys(LOADED_LATE, "loads or reads files when it is used")
        for node in module.nodes:
            findings += [(module, node, f"{name}: {banned[name]}") for name in _imported(node) & banned.keys()]
    _none(findings)


def test_nothing_is_imported_late() -> None:
    """After the fork the interpreter may stand in the container's root: an import would read its files."""
    _none([
        (module, node, f"{function.name} imports {', '.join(_imported(node))}")
        for module in _in(*IN_A_CONTAINER)
        for function in module.functions()
        for node in ast.walk(function)
        if _imported(node)
    ])


def test_what_forks_has_no_threads() -> None:
    _none([
        (module, node, "threads")
        for module in _in("linux", "oci", "runtime", "image", "build")
        for node in module.nodes
        if _imported(node) & {"threading", "concurrent", "multiprocessing"}
    ])


def test_requests_share_no_module_state() -> None:
    """No `global`; a container at module level is a constant, so its name is one (CVE-2020-14370)."""
    findings: Findings = []
    for module in _modules():
        findings += [(module, node, ast.unparse(node)) for node in module.nodes if isinstance(node, ast.Global)]
        for node in module.tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict | ast.List | ast.Set):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [ast.unparse(target) for target in targets]
                findings += [(module, node, name) for name in names if not (name.isupper() or name.startswith("__"))]
    _none(findings)


def test_files_and_functions_stay_short() -> None:
    findings: Findings = []
    for module in _modules():
        if len(module.lines) > MAX_FILE:
            findings.append((module, module.tree, f"{len(module.lines)} lines: split it by noun"))
        for function in module.functions():
            length = (function.end_lineno or 0) - function.lineno + 1
            if length > MAX_FUNCTION:
                findings.append((module, function, f"{function.name} has {length} lines"))
    _none(findings)
