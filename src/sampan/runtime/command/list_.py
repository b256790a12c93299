"""`list`: all containers below --root."""

from __future__ import annotations

from sampan.errors import InvalidArgument, NotFound, SampanError
from sampan.runtime.command import layout, log
from sampan.runtime.command.arguments import BOOL, Command, Flag
from sampan.runtime.lifecycle import view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.call import Call

FORMAT = Flag(("format", "f"), "table or json", default="table")
_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")
_MAX_PASSWD = 10 << 20

COMMAND = Command(
    "list",
    "list the containers below --root",
    "",
    (FORMAT, Flag(("quiet", "q"), "show the ids alone", BOOL)),
    least=0,
    most=0,
)


def run(call: Call) -> int:
    registry = call.registry()
    if call.parsed.flag("quiet"):
        call.write("".join(f"{container_id}\n" for container_id in registry.ids()))
        return 0
    form = check_format(call)
    found = []
    for container_id in registry.ids():
        try:
            with registry.open(container_id) as entry:
                shown = view.of(entry)
        except (NotFound, FileNotFoundError):
            continue  # it was deleted meanwhile
        except SampanError as error:
            call.log.warning(str(error))  # a record that cannot be read does not hide the others
            continue
        except InvalidArgument as error:
            call.log.warning(str(error))
            continue
        shown["owner"] = _owner_name(str(shown.get("owner", "")))
        found.append(shown)
    if form == "json":
        call.write_json(found)
        return 0
    rows = [[column.upper() for column in _COLUMNS]]
    rows += [[log.printable(str(shown.get(column, ""))) for column in _COLUMNS] for shown in found]
    call.write(layout.table(rows))
    return 0


def check_format(call: Call) -> str:
    """--format. Raises InvalidArgument in runc's words."""
    form = call.parsed.text("format")
    if form not in ("table", "json"):
        raise InvalidArgument("invalid format option")
    return form


def _owner_name(uid: str) -> str:
    """The user's name in the host's /etc/passwd; "#1000" for one who is not in it, as runc has it."""
    uid = uid or "0"
    try:
        with open("/etc/passwd", encoding="utf-8", errors="replace") as file:
            for line in file.read(_MAX_PASSWD).splitlines():
                fields = line.split(":")
                if len(fields) > 2 and fields[2] == uid:
                    return fields[0]
    except FileNotFoundError:
        pass
    return f"#{uid}"
