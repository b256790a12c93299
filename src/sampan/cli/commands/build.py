"""sampan build."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from sampan.cli.build_context import Context, open_context
from sampan.cli.build_display import Plain, Quiet, Steps
from sampan.cli.command import Command, Invocation
from sampan.cli.create.environment import check_env, from_environment, key_values
from sampan.cli.create.network import check_extra_host
from sampan.cli.create.resources import parse_ulimit, ulimits
from sampan.cli.failure import UsageError
from sampan.cli.flags import BYTES, INT, LIST, STRING, STRINGS, Kind, Option, Values, checked_list

OPTIONS = (
    Option("--add-host", kind=checked_list("list", check_extra_host),
           help='Add a custom host-to-IP mapping ("host:ip")'),
    Option("--build-arg", kind=checked_list("list", check_env), help="Set build-time variables"),
    Option("--cache-from", kind=STRINGS, help="Images to consider as cache sources"),
    Option("--cgroup-parent", kind=STRING, help='Set the parent cgroup for the "RUN" instructions during build'),
    Option("--compress", help="Compress the build context using gzip (no effect: the socket is on this host)"),
    Option("--cpu-period", kind=INT, help="Limit the CPU CFS (Completely Fair Scheduler) period"),
    Option("--cpu-quota", kind=INT, help="Limit the CPU CFS (Completely Fair Scheduler) quota"),
    Option("-c", "--cpu-shares", kind=INT, help="CPU shares (relative weight)"),
    Option("--cpuset-cpus", kind=STRING, help="CPUs in which to allow execution (0-3, 0,1)"),
    Option("--cpuset-mems", kind=STRING, help="MEMs in which to allow execution (0-3, 0,1)"),
    Option("--disable-content-trust", default=True, help="Skip image verification", hidden=True),
    Option("-f", "--file", kind=STRING, help='Name of the Dockerfile (Default is "PATH/Dockerfile")'),
    Option("--force-rm", help="Always remove intermediate containers"),
    Option("--iidfile", kind=STRING, help="Write the image ID to the file"),
    Option("--isolation", kind=STRING, help="Container isolation technology", hidden=True),
    Option("--label", kind=LIST, help="Set metadata for an image"),
    Option("-m", "--memory", kind=BYTES, help="Memory limit"),
    Option("--memory-swap", kind=BYTES, help="Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
    Option("--network", kind=STRING, default="default",
           help="Set the networking mode for the RUN instructions during build", shown_default='"default"'),
    Option("--no-cache", help="Do not use cache when building the image"),
    Option("--platform", kind=STRING, help="Set platform if server is multi-platform capable"),
    Option("--progress", kind=STRING, default="auto", shown_default='"auto"',
           help="How to show progress: auto (steps in place on a terminal), tty or plain"),
    Option("--pull", help="Always attempt to pull a newer version of the image"),
    Option("-q", "--quiet", help="Suppress the build output and print image ID on success"),
    Option("--rm", default=True, help="Remove intermediate containers after a successful build", shown_default="true"),
    Option("--security-opt", kind=STRINGS, help="Security options"),
    Option("--shm-size", kind=BYTES, help='Size of "/dev/shm"'),
    Option("-t", "--tag", kind=LIST, help='Name and optionally a tag in the "name:tag" format'),
    Option("--target", kind=STRING, help="Set the target build stage to build."),
    Option("--ulimit", kind=Kind("ulimit", parse_ulimit, many=True), help="Ulimit options"),
)


def build_query(values: Values, dockerfile: str) -> dict[str, object]:
    """The parameters of POST /build."""
    arguments: dict[str, str | None] = {}
    for text in values.texts("build-arg"):
        name, equals, value = from_environment(text).partition("=")
        arguments[name] = value if equals else None
    numbers = {
        "memory": "memory", "memswap": "memory-swap", "cpushares": "cpu-shares", "cpuperiod": "cpu-period",
        "cpuquota": "cpu-quota", "shmsize": "shm-size",
    }
    return {
        "version": "1", "t": values.texts("tag"), "dockerfile": dockerfile, "q": values.on("quiet"),
        "nocache": values.on("no-cache"), "rm": "1" if values.on("rm") else "0", "forcerm": values.on("force-rm"),
        "pull": values.on("pull"), "buildargs": json.dumps(arguments),
        "labels": json.dumps(key_values(values.texts("label"))),
        "cachefrom": json.dumps(values.texts("cache-from")), "target": values.text("target") or None,
        "networkmode": values.text("network"), "extrahosts": values.texts("add-host"),
        "cgroupparent": values.text("cgroup-parent") or None, "cpusetcpus": values.text("cpuset-cpus") or None,
        "cpusetmems": values.text("cpuset-mems") or None, "platform": values.text("platform") or None,
        "ulimits": json.dumps(ulimits(values.objects("ulimit"))), "securityopt": values.texts("security-opt"),
        **{name: values.number(key) or None for name, key in numbers.items()},
    }


def _display(values: Values) -> Plain:
    progress = values.text("progress")
    if progress not in ("auto", "tty", "plain"):
        raise UsageError(f"invalid progress: {progress}: must be auto, tty or plain", exit_code=1)
    if values.on("quiet"):
        return Quiet()
    in_place = os.isatty(1) and os.environ.get("TERM") != "dumb" if progress == "auto" else progress == "tty"
    return Steps() if in_place else Plain()


def run(invocation: Invocation) -> int:
    values, engine = invocation.values, invocation.engine
    path = invocation.arguments[0]
    display = _display(values)
    is_url = path.startswith(("http://", "https://", "git://", "git@", "github.com/"))
    dockerfile = values.text("file")
    context = Context(iter(()), dockerfile or "Dockerfile") if is_url else open_context(path, dockerfile)
    try:
        query = {**build_query(values, context.dockerfile), "remote": path if is_url else None}
        body: Iterator[bytes] | None = None if is_url else context.blocks
        response = engine.open("POST", "/build", query, body, {"Content-Type": "application/x-tar"})
        for message in engine.messages(response):
            display.message(message)
    finally:
        context.close()
    display.finished()
    if values.text("iidfile"):
        with open(values.text("iidfile"), "w", encoding="ascii") as file:
            file.write(display.image_id)
    return 0


COMMAND = Command("PATH | URL | -", "Build an image from a Dockerfile", run, OPTIONS, least=1, most=1)
