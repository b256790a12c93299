"""`ps`: the processes of a container, by the host's ps(1)."""

from __future__ import annotations

from sampan.errors import Internal, Unsupported
from sampan.runtime.command.arguments import Command
from sampan.runtime.command.list_ import FORMAT, check_format
from sampan.runtime.lifecycle import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.call import Call

COMMAND = Command(
    "ps",
    "show the processes of a container",
    "<container-id> [ps options]",
    (FORMAT,),
    least=1,
    most=None,
    in_order=True,
    description="Options after the id are those of ps(1); -ef when there are none. Its output must have a column PID.",
)


def run(call: Call) -> int:
    form = check_format(call)
    with call.entry() as entry:
        pids = processes.pids(entry)
    if form == "json":
        call.write_json(pids)
        return 0
    call.write(filtered(_ps(call.parsed.arguments[1:] or ["-ef"]), set(pids)))
    return 0


def _ps(options: list[str]) -> str:
    import subprocess  # allowed: this command alone runs a program of the host, and none of it runs in a container

    try:
        done = subprocess.run(["ps", *options], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError:
        raise Unsupported("the program ps is not installed on this host: use --format json") from None
    if done.returncode:
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        raise Internal(f"exit status {done.returncode}: {said}")
    return done.stdout.decode("utf-8", "surrogateescape")


def filtered(output: str, pids: set[int]) -> str:
    """The header and the lines of `pids`. Raises Unsupported when ps was not asked for the PID column."""
    header, *lines = output.removesuffix("\n").split("\n")  # not splitlines: what else ends lines may stand in a name
    columns = header.split()
    if "PID" not in columns:
        raise Unsupported("couldn't find PID field in ps output")
    at = columns.index("PID")
    shown = [header]
    for line in lines:
        fields = line.split()
        if len(fields) > at and fields[at].isdigit() and int(fields[at]) in pids:
            shown.append(line)
    return "".join(f"{line}\n" for line in shown)
