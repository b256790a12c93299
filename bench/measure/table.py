"""Rows as text: medians, how far the middle half spreads, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence


def spread(values: Sequence[float]) -> float:
    """Half the distance between the quartiles, as a part of the median: the noise."""
    if len(values) < 4:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / 2 / middle


def row(title: str, samples: Mapping[str, Sequence[float]], base: str) -> list[str]:
    """One line for each contestant: median in ms ± noise, and how many times `base`'s."""
    medians = {name: statistics.median(values) for name, values in samples.items()}
    lines = [title]
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        ratio = f"{median / medians[base]:6.1f} ×" if base in medians else ""
        lines.append(f"    {name:<28}{1000 * median:9.2f} ms ±{100 * spread(samples[name]):3.0f} %  {ratio}")
    return lines


def phases(title: str, seconds: Mapping[str, float]) -> list[str]:
    whole = sum(seconds.values())
    lines = [f"    {name:<28}{1000 * value:9.2f} ms {100 * value / whole:5.0f} %" for name, value in seconds.items()]
    return [title, *lines]


def mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
