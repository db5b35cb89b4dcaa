# What counts as a leak: memory that grows with every round, of whoever looks at it, and not of somebody else.
"""The check for leaks, on numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

import infinicore as ic
from infinicore.testing.checks import leaks
from infinicore.testing.suite import Options, Target

GROWTH: dict[str, tuple[Callable[[int], int], Callable[[int], int], str | None]] = {
    "nothing": (lambda n: 100, lambda n: 100, None),
    "a cache that fills": (lambda n: min(n, 4) << 20, lambda n: min(n, 9) << 20, None),
    "a leak on the device": (lambda n: n * 48, lambda n: 0, "device"),
    "a leak on the host": (lambda n: 0, lambda n: n * 48 * 16, "host"),
    "less than an allocation": (lambda n: 0, lambda n: n * 8, None),
    "other users of the device": (lambda n: n * n * n << 12, lambda n: 0, None),
}


@pytest.mark.parametrize("what", GROWTH)
def test_what_is_a_leak(what: str, monkeypatch: pytest.MonkeyPatch, cpu: ic.device) -> None:
    device, host, place = GROWTH[what]
    rounds: Iterator[int] = itertools.count()
    now = [0]

    def device_bytes(target: Target) -> int:
        now[0] = next(rounds)
        return device(now[0])

    monkeypatch.setattr(leaks, "device_bytes", device_bytes)
    monkeypatch.setattr(leaks, "host_bytes", lambda: host(now[0]))
    target = Target(Options("cpu"))
    if place is None:
        leaks.grows(target, lambda: None, "a thing")
    else:
        with pytest.raises(AssertionError, match=f"a thing: {place} memory grows by"):
            leaks.grows(target, lambda: None, "a thing")
