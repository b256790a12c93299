"""sampan system prune."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.failure import EngineError
from sampan.cli.flags import Option
from sampan.cli.prune import FORCE, PRUNE_FILTER, confirm, prune, reclaimed, report, report_images

OPTIONS = (
    Option("-a", "--all", help="Remove all unused images not just dangling ones"),
    PRUNE_FILTER,
    FORCE,
    Option("--volumes", help="Prune anonymous volumes"),
)


def run(invocation: Invocation) -> int:
    values = invocation.values
    everything, volumes = values.on("all"), values.on("volumes")
    images = "all images without at least one container associated to them" if everything else "all dangling images"
    what = [
        "all stopped containers", "all networks not used by at least one container",
        *(["all anonymous volumes not used by at least one container"] if volumes else []),
        images, "unused build cache",
    ]
    confirm(invocation, "This will remove:\n" + "\n".join(f"  - {line}" for line in what) + "\n")
    answers = [prune(invocation, "containers")]
    report("Deleted Containers", answers[0].get("ContainersDeleted"))
    report("Deleted Networks", prune(invocation, "networks").get("NetworksDeleted"))
    if volumes:
        answers.append(prune(invocation, "volumes"))
        report("Deleted Volumes", answers[-1].get("VolumesDeleted"))
    answers.append(prune(invocation, "images", {"dangling": ["false" if everything else "true"]}))
    report_images(answers[-1])
    answers.append(_prune_build_cache(invocation, everything))
    report("Deleted build cache objects", answers[-1].get("CachesDeleted"))
    reclaimed(*answers)
    return 0


def _prune_build_cache(invocation: Invocation, everything: bool) -> dict[str, object]:
    try:
        return invocation.engine.post("/build/prune", {"all": everything}) or {}
    except EngineError as error:
        if error.status not in (404, 501):  # an engine without a build cache of its own
            raise
        return {}


COMMAND = Command("", "Remove unused data", run, OPTIONS, most=0)
