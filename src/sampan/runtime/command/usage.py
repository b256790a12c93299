"""The help of the program and of its commands."""

from __future__ import annotations

from sampan import __version__
from sampan.runtime.command.arguments import BOOL, HELP, INT, Command, Flag

_DESCRIPTION = """\
   Runs containers from OCI bundles: directories with a config.json and a root file system.
   `spec` writes a config.json to begin with; `run` makes, starts and deletes a container in one go:

       # mkdir -p bundle/rootfs && cd bundle
       # sampan-runtime spec
       # sampan-runtime run mycontainer
"""


def version() -> str:
    """In the form of `runc --version`, which engines read."""
    from platform import python_version  # allowed: only for --version

    from sampan.oci.runtime import VERSION  # allowed: only for --version

    return f"sampan-runtime version {__version__}\nspec: {VERSION}\npython: {python_version()}\n"


def program(name: str, flags: tuple[Flag, ...], commands: dict[str, str]) -> str:
    """Of the whole program; `commands` maps each to its summary."""
    width = max(len(command) for command in commands)
    listed = "".join(f"   {command:{width}}  {summary}\n" for command, summary in commands.items())
    return (
        f"NAME:\n   {name} - an OCI runtime with runc's command line\n\n"
        f"USAGE:\n   {name} [global options] command [command options] [arguments...]\n\n"
        f"DESCRIPTION:\n{_DESCRIPTION}\n"
        f"COMMANDS:\n{listed}\nGLOBAL OPTIONS:\n{_flags((*flags, HELP))}"
    )


def command(name: str, it: Command) -> str:
    """Of one command."""
    options = " [command options]" if it.flags else ""
    text = f"NAME:\n   {name} {it.name} - {it.summary}\n\nUSAGE:\n   {name} {it.name}{options} {it.usage}\n"
    if it.description:
        text += "\nDESCRIPTION:\n" + "".join(f"   {line}".rstrip() + "\n" for line in it.description.split("\n"))
    if it.flags:
        text += f"\nOPTIONS:\n{_flags((*it.flags, HELP))}"
    return text


def _flags(flags: tuple[Flag, ...]) -> str:
    shown = [(_names(flag), flag) for flag in flags if not flag.hidden]
    width = max(len(names) for names, _ in shown)
    return "".join(f"   {names:{width}}  {flag.help}{_default(flag)}\n" for names, flag in shown)


def _names(flag: Flag) -> str:
    value = "" if flag.kind == BOOL else " value"
    return ", ".join(f"-{'-' if len(name) > 1 else ''}{name}{value}" for name in flag.names)


def _default(flag: Flag) -> str:
    if not flag.default or flag.kind == BOOL:
        return ""
    return f" (default: {flag.default})" if flag.kind == INT else f' (default: "{flag.default}")'
