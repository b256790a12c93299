"""`spec`: a config.json to begin with."""

from __future__ import annotations

from sampan.runtime.command import creating, layout
from sampan.runtime.command.arguments import BOOL, Command, Flag
from sampan.runtime.lifecycle import specfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.call import Call

COMMAND = Command(
    "spec",
    "write a config.json to begin with",
    "",
    (creating.BUNDLE, Flag(("rootless",), "one for an ordinary user: with a user namespace, without cgroups", BOOL)),
    least=0,
    most=0,
    description=(
        "Writes config.json for a shell on a terminal into the bundle's directory. One that is there already stays.\n"
        "The root file system is the directory rootfs beside it."
    ),
)


def run(call: Call) -> int:
    bundle = call.parsed.text("bundle")
    if bundle:
        creating.enter_bundle(bundle)
    document = specfile.rootless() if call.parsed.flag("rootless") else specfile.default()
    specfile.write(".", layout.indented(document, "\t"))
    return 0
