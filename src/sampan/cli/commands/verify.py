"""sampan verify."""

from __future__ import annotations

import json

from sampan.cli.command import Command, Invocation
from sampan.cli.failure import CommandFailed
from sampan.cli.findings import show_findings
from sampan.cli.flags import Option

OPTIONS = (Option("--json", help="Print the findings as JSON"),)


def run(invocation: Invocation) -> int:
    details = invocation.engine.get(f"/containers/{invocation.arguments[0]}/json")
    if not details["State"]["Running"] or not details["State"]["Pid"]:
        raise CommandFailed(f"{invocation.arguments[0]} is not running: there is nothing to look at; start it first")
    from sampan.insight.finding import LIMITED, MISSING, worst
    from sampan.insight.verify import verify

    try:
        findings = verify(details)
    except PermissionError as error:
        raise CommandFailed(f"{error.filename}: permission denied: run as root") from None
    if invocation.values.on("json"):
        print(json.dumps([finding.as_dict() for finding in findings], indent=2, ensure_ascii=False))
    else:
        show_findings(findings)
        failed = sum(finding.level == MISSING for finding in findings)
        limited = sum(finding.level == LIMITED for finding in findings)
        verdict = "its isolation does NOT hold" if failed else "its isolation holds as configured"
        print(f"\n{verdict}: {failed} failed, {limited} weakened by its configuration, of {len(findings)} checks")
    return 1 if worst(findings) == MISSING else 0


COMMAND = Command(
    "CONTAINER", "Check that a container's isolation holds as its configuration says", run, OPTIONS, least=1, most=1,
    detail="Looks from outside, at /proc and the control groups. ✓ holds, ! weakened by its configuration, ✗ does not\n"
    "hold. The exit code is 1 when anything does not hold.",
)
