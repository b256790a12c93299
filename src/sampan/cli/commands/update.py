"""sampan update: change a container's limits while it runs."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.each import for_each, warn
from sampan.cli.failure import UsageError
from sampan.cli.flags import BYTES, DECIMAL, INT, STRING, UINT16, Option

OPTIONS = (
    Option("--blkio-weight", kind=UINT16,
           help="Block IO (relative weight), between 10 and 1000, or 0 to disable", shown_default="0"),
    Option("--cpu-period", kind=INT, help="Limit CPU CFS (Completely Fair Scheduler) period"),
    Option("--cpu-quota", kind=INT, help="Limit CPU CFS (Completely Fair Scheduler) quota"),
    Option("--cpu-rt-period", kind=INT, help="Limit the CPU real-time period in microseconds"),
    Option("--cpu-rt-runtime", kind=INT, help="Limit the CPU real-time runtime in microseconds"),
    Option("-c", "--cpu-shares", kind=INT, help="CPU shares (relative weight)"),
    Option("--cpus", kind=DECIMAL, help="Number of CPUs"),
    Option("--cpuset-cpus", kind=STRING, help="CPUs in which to allow execution (0-3, 0,1)"),
    Option("--cpuset-mems", kind=STRING, help="MEMs in which to allow execution (0-3, 0,1)"),
    Option("-m", "--memory", kind=BYTES, help="Memory limit"),
    Option("--memory-reservation", kind=BYTES, help="Memory soft limit"),
    Option("--memory-swap", kind=BYTES, help="Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
    Option("--pids-limit", kind=INT, help="Tune container pids limit (set -1 for unlimited)"),
    Option("--restart", kind=STRING, help="Restart policy to apply when a container exits"),
)
TEXTS = {"cpuset-cpus": "CpusetCpus", "cpuset-mems": "CpusetMems"}
NUMBERS = {
    "blkio-weight": "BlkioWeight", "cpu-period": "CpuPeriod", "cpu-quota": "CpuQuota", "cpu-shares": "CpuShares",
    "cpu-rt-period": "CpuRealtimePeriod", "cpu-rt-runtime": "CpuRealtimeRuntime", "cpus": "NanoCpus",
    "memory": "Memory", "memory-reservation": "MemoryReservation", "memory-swap": "MemorySwap",
    "pids-limit": "PidsLimit",
}


def run(invocation: Invocation) -> int:
    from sampan.cli.create.restart import restart_policy

    engine, values = invocation.engine, invocation.values
    if not any(values.given(option.key) for option in OPTIONS):
        raise UsageError("you must provide one or more flags when using this command", exit_code=1)
    body: dict[str, object] = {name: values.number(key) for key, name in NUMBERS.items() if values.given(key)}
    body |= {name: values.text(key) for key, name in TEXTS.items() if values.given(key)}
    if values.given("restart"):
        body["RestartPolicy"] = restart_policy(values.text("restart"))

    def update(name: str) -> None:
        warn(engine.post(f"/containers/{name}/update", json_body=body).get("Warnings"))

    return for_each(invocation.arguments, update)


COMMAND = Command(
    "CONTAINER [CONTAINER...]", "Update configuration of one or more containers", run, OPTIONS, least=1
)
