"""sampan doctor."""

from __future__ import annotations

import json

from sampan.cli.command import Command, Invocation
from sampan.cli.findings import show_findings
from sampan.cli.flags import STRING, Option

OPTIONS = (
    Option("--json", help="Print the findings as JSON"),
    Option("--data-root", kind=STRING, default="/var/lib/sampan", help="Where images and containers are or will be",
           shown_default='"/var/lib/sampan"'),
)


def run(invocation: Invocation) -> int:
    from pathlib import Path

    from sampan.insight import doctor
    from sampan.insight.finding import LIMITED, MISSING, worst

    findings = doctor.examine(Path(invocation.values.text("data-root")).absolute())
    if invocation.values.on("json"):
        print(json.dumps([finding.as_dict() for finding in findings], indent=2, ensure_ascii=False))
    else:
        show_findings(findings)
        missing = sum(finding.level == MISSING for finding in findings)
        limited = sum(finding.level == LIMITED for finding in findings)
        print(f"\n{missing} missing, {limited} limited, {len(findings) - missing - limited} as it should be")
    return 1 if worst(findings) == MISSING else 0


COMMAND = Command(
    "", "Check what this host's kernel has, what is missing and how to get it", run, OPTIONS, most=0,
    detail="Tries each thing in a child process; needs no engine. ✓ works, ! limited or optional, ✗ missing.\n"
    "The exit code is 1 when something needed is missing.",
)
