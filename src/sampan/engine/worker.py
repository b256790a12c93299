"""The fork server of file jobs: `python -m sampan.engine.worker FD`."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Mapping
from typing import Any

from sampan.build import jobs as build
from sampan.engine import berths, log_reader, volume_fill
from sampan.image import jobs as image
from sampan.jobs import forkserver
from sampan.jobs.forkserver import Channel, Job
from sampan.linux import paths, process


def empty_trash(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """args: path of the directory. All that is in it now is deleted. → {}"""
    directory = os.open(args["path"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(directory):
            paths.remove_tree(directory, name)
    finally:
        os.close(directory)
    return {}


def make_berths(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """args: path of the directory, count. → names of container directories made there, complete."""
    os.umask(0)
    names = [secrets.token_hex(8) for _ in range(args["count"])]
    for name in names:
        berths.make(f"{args['path']}/.{name}")
        os.rename(f"{args['path']}/.{name}", f"{args['path']}/{name}")
    return {"names": names}


def _bound(jobs: Mapping[str, Job]) -> dict[str, Job]:
    """Jobs that end with the worker, and so with the engine: what they make is of use to nobody else."""

    def bind(job: Job) -> Job:
        def run(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
            process.die_with_parent(signal.SIGKILL)
            return job(channel, args, fds)

        return run

    return {name: bind(job) for name, job in jobs.items()}


JOBS: dict[str, Job] = {
    **_bound(image.JOBS),
    **_bound(build.JOBS),
    **_bound({
        "engine.empty_trash": empty_trash, "engine.make_berths": make_berths,
        "engine.fill_volumes": volume_fill.fill_volumes,
    }),
    "engine.read_log": log_reader.read_log,  # follows its container, whoever is the engine
}


def main() -> None:
    forkserver.main(JOBS, bound=False)


if __name__ == "__main__":
    main()
