"""Every command of the catalogue: its file is there, its help can be printed, its words are Docker's."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from sampan.cli import catalog
from sampan.cli.command import Command
from sampan.cli.main import main

TOP = sorted({*catalog.COMMON, *catalog.INSIGHT, *catalog.OTHERS})
GROUPED = sorted((group, word) for group, words in catalog.GROUPED.items() for word in words)
FILES = Path(catalog.__file__).parent


@pytest.mark.parametrize("words", [[name] for name in TOP] + [list(pair) for pair in GROUPED], ids=" ".join)
def test_help_of_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"Usage:  sampan {' '.join(words)}")
    assert shown.err == ""


def test_every_file_is_in_the_catalogue() -> None:
    modules = {catalog.module_of([name])[0] for name in TOP} | {catalog.module_of(list(pair))[0] for pair in GROUPED}
    files = {path.stem for path in (FILES / "commands").glob("*.py")} - {"__init__"}
    assert files == modules


def test_option_keys_are_unique() -> None:
    for path in (FILES / "commands").glob("*.py"):
        if path.stem == "__init__":
            continue
        command: Command = import_module(f"sampan.cli.commands.{path.stem}").COMMAND
        names = [name for option in command.options for name in option.names]
        assert len(names) == len(set(names)), path


@pytest.mark.parametrize(("words", "code", "message"), [
    ([], 0, ""),
    (["--help"], 0, ""),
    (["help", "run"], 0, ""),
    (["container"], 0, ""),
    (["container", "--help"], 0, ""),
    (["foo"], 1, "unknown command: sampan foo"),
    (["container", "foo"], 1, "unknown command: sampan container foo"),
    (["-x"], 125, "unknown shorthand flag: 'x' in -x"),
    (["ps", "--foo"], 125, "unknown flag: --foo"),
    (["ps", "x"], 1, "'sampan ps' accepts no arguments"),
    (["run"], 1, "'sampan run' requires at least 1 argument"),
    (["tag", "a"], 1, "'sampan tag' requires 2 arguments"),
    (["port"], 1, "requires at least 1 and at most 2 arguments"),
    (["images", "a", "b"], 1, "requires at most 1 argument"),
    (["-H", "nope", "ps"], 125, 'invalid address "nope"'),
    (["-H", "unix://rel", "ps"], 125, "absolute path"),
    (["-H", "unix:///does/not/exist", "ps"], 1, "nobody listens there"),
    (["-H", "unix:///does/not/exist", "run", "x"], 125, "nobody listens there"),
    (["ps", "-f", "x"], 125, "invalid filter 'x'"),
    (["logs", "--since", "yesterday", "x"], 1, 'invalid value for "since"'),
    (["update", "x"], 1, "you must provide one or more flags"),
    (["inspect", "--type", "planet", "x"], 125, 'unknown type: "planet"'),
    (["serve", "--log-level", "loud"], 125, 'invalid log level: "loud"'),
    (["serve", "-H", "tcp://0.0.0.0:2375"], 125, "unix sockets only"),
])
def test_exit_codes_and_messages(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert bool(shown.err) == bool(message)
    assert "internal error" not in shown.err


def test_no_permission_says_who_may(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sampan.cli.address import Address, unreachable

    (tmp_path / "s").touch()
    message = str(unreachable(Address("unix", path=str(tmp_path / "s")), PermissionError(13, "Permission denied")))
    assert message.startswith("permission denied on the engine's socket") and "run as root" in message


def test_an_ordinary_command_imports_little() -> None:
    """asyncio alone costs 37 ms."""
    code = (
        "import sys; sys.argv = ['sampan', '-H', 'unix:///does/not/exist', 'ps']\n"
        "from sampan.cli.main import main; main()\n"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"asyncio", "argparse", "http.client", "rich", "typing", "inspect", "dataclasses", "msgspec", "pathlib"}
    assert not loaded & heavy
    assert not {name for name in loaded if name.startswith(("sampan.engine", "sampan.api", "sampan.insight"))}


def test_templates_and_parsers_are_pure() -> None:
    """What reads others' words does no I/O: it can be fuzzed, and used by either side."""
    for name in ("template/parse.py", "template/functions.py", "attach/stdcopy.py", "attach/keys.py", "units.py"):
        tree = ast.parse((FILES / name).read_text())
        imported = {
            module for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
            for module in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        }
        assert not imported & {"os", "socket", "select", "sys"}, name
