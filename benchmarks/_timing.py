# How the benchmarks take time: calls that do the same alternate, so that other work on the machine slows all
# of them, and ratios of their times stay.
"""Timing helpers of the benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Call = Callable[[], Any]


def once(call: Call, repeat: int) -> float:
    """Return seconds per call of `repeat` calls in a row."""
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - start) / repeat


def alternate(calls: list[Call], seconds: float) -> list[list[float]]:
    """Time `calls` in turn for about `seconds` in all, each sample a millisecond or more; a list per call."""
    repeats = []
    for call in calls:
        call()
        repeats.append(max(1, int(1e-3 / max(once(call, 1), 1e-9))))
    samples: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    while len(samples[0]) < 5 or time.perf_counter() < end:
        for sample, call, repeat in zip(samples, calls, repeats, strict=True):
            sample.append(once(call, repeat))
    return samples
