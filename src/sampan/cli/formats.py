"""The `--format` option and rendering of whole objects (inspect, version, info)."""

from __future__ import annotations

import json

from sampan.cli.flags import STRING, Option

LIST_FORMAT = Option(
    "--format", kind=STRING,
    help="Format output using a custom template: 'table' (default), 'table TEMPLATE', 'json', or a Go template",
)
OBJECT_FORMAT = Option(
    "-f", "--format", kind=STRING, help="Format output using a custom template: 'json', or a Go template",
)

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any


def render_object(form: str, data: Any) -> str:
    """One object through `json` or a template, with a newline. Raises TemplateError."""
    if form == "json":
        return json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n"
    from sampan.cli.template import Template  # only a command that was given a template pays for it

    return Template(form).render(data) + "\n"


def render_objects(form: str, objects: list[Any]) -> str:
    """What `inspect` prints: an indented JSON array, one compact array for `json`, or the template once per object."""
    if form == "":
        return json.dumps(objects, ensure_ascii=False, indent=4) + "\n"
    if form == "json":
        return json.dumps(objects, ensure_ascii=False, separators=(",", ":")) + "\n"
    from sampan.cli.template import Template

    template = Template(form)
    return "".join(template.render(item) + "\n" for item in objects)
