"""One thing that was looked at: what insight's reports are made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass

OK, LIMITED, MISSING = "ok", "limited", "missing"
"""Works · works less than it could, or is optional and absent · needed and absent, or a promise that does not hold."""


@dataclass(frozen=True)
class Finding:
    """`value` is what was found; `meaning` what follows from it; `remedy` how to get it. The last two may be ""."""

    group: str
    name: str
    level: str
    value: str
    meaning: str = ""
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


def worst(findings: list[Finding]) -> str:
    """The worst level among them."""
    levels = {finding.level for finding in findings}
    return MISSING if MISSING in levels else LIMITED if LIMITED in levels else OK
