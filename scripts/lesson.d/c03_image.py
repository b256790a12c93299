from __future__ import annotations

import json

from lesson import Lesson

TITLE = "The image"
SAYS = "Its layers, its history, and the note that says how to start it."
MORE = """\
LABEL, ENV, EXPOSE, CMD and their like make no layer, they change the configuration: their size in the history is 0.
EXPOSE publishes nothing, it tells whoever runs the image. STOPSIGNAL is what `stop` will send first.

CMD in exec form (a JSON list) is started as it is. In shell form it would be `/bin/sh -c "…"`: the shell would be
process 1 and get the stop signal, and most shells do not pass it on.
"""


def tell(lesson: Lesson) -> None:
    page, show = lesson.page, lesson.shell.show
    result = show("sampan images httpd")
    page.claim("two tags, two images that share all but the last layers", result.text.count("httpd") == 2)
    result = show("sampan history httpd:v1", shown=16)
    page.claim("one line for each step, the newest first: most only change the note, few make a layer",
               len(result.lines) > 8 and "CMD" in result.lines[1], result.text)
    show("sampan inspect httpd:v1 -f 'Cmd {{json .Config.Cmd}}, StopSignal {{.Config.StopSignal}},\n"
         "    WorkingDir {{.Config.WorkingDir}}, ExposedPorts {{json .Config.ExposedPorts}}'")
    config = json.loads(lesson.shell.ask("sampan inspect httpd:v1 --format '{{json .Config}}'"))
    page.claim("CMD in exec form is a list: the program is process 1, no shell between it and its signals",
               isinstance(config.get("Cmd"), list) and "/bin/sh" not in config["Cmd"][0], config.get("Cmd"))
    page.claim("EXPOSE, STOPSIGNAL and WORKDIR are kept",
               "80/tcp" in (config.get("ExposedPorts") or {}) and config.get("StopSignal") and config.get("WorkingDir"))
    result = show("sampan run --rm httpd:v1 ls")
    added = set(lesson.shell.ask("tar -tzf httpd/*.tar.gz | grep -v '/$'").replace("./", "").split())
    page.claim("ADD has unpacked the archive: its files are in the working directory",
               bool(added) and {name.split("/")[0] for name in added} <= set(result.text.split()), result.text)
    result = show("sampan tag httpd:v1 httpd:stable\nsampan images --no-trunc --format '{{.Tag}} {{.ID}}' httpd")
    ids = dict(line.split() for line in result.lines)
    page.claim("a tag is a name, not a copy: v1 and stable are one image", ids.get("v1") == ids.get("stable"), ids)
