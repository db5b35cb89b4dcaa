# Times, beside those of the CPU backend and of PyTorch on the same values. They are reported and not judged:
# what is fast enough depends on the device.
"""Times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

import infinicore as ic
from infinicore.testing.suite import Target, check, check_each_operator, elements

if TYPE_CHECKING:
    from infinicore.testing.conformance import Launch
    from infinicore.testing.strategies import DrawnCall

BUDGET = 0.02  # seconds per measured thing
DIMENSIONS = (64, 127, 128)


def seconds(action: Callable[[], object], wait: Callable[[], object]) -> float:
    """Measure an action: the median of several rounds, each of as many repetitions as make it measurable."""
    action()
    wait()
    started = time.perf_counter()
    action()
    wait()
    once = max(time.perf_counter() - started, 1e-7)
    repeat = max(1, min(1000, int(BUDGET / 5 / once)))
    rounds = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(repeat):
            action()
        wait()
        rounds.append((time.perf_counter() - started) / repeat)
    return statistics.median(rounds)


def larger(target: Target, call: DrawnCall) -> DrawnCall:
    """Look for a larger call than the checks of results use, in the same dtypes."""
    import dataclasses

    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st

    from infinicore.testing.strategies import calls

    found = [call]
    words = {
        p.dtype: call.slots[p.index].dtype
        for p in call.schema.tensors
        if hasattr(call.slots[p.index], "dtype")
    }

    @seed(target.options.seed)
    @settings(
        max_examples=3,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(calls(call.schema, dtypes=words, dimensions=st.sampled_from(DIMENSIONS)))
    def keep(one: DrawnCall) -> None:
        found.append(dataclasses.replace(one, give_out=True, alias={}))

    keep()
    return max(found, key=elements)


def torch_seconds(call: DrawnCall) -> float | None:
    """Measure PyTorch on the CPU with the same values and dtypes; None where it has no such operator."""
    from infinicore.testing.conformance import WITNESSES, in_torch, witness_arguments

    try:
        import torch
    except ImportError:
        return None
    function = WITNESSES.get(call.schema.name)
    if function is None:
        return None
    try:
        arguments = witness_arguments(call, lambda drawn: in_torch(drawn, torch))
        with torch.inference_mode():
            return seconds(lambda: function(torch, arguments), lambda: None)
    except (NotImplementedError, RuntimeError, TypeError):
        return None  # it has no such dtype


def measured(launch: Launch, device: ic.device) -> float:
    """Measure a call on a device, with its plan found in the cache as programs find it."""
    return seconds(launch, lambda: ic.synchronize(device))


@check_each_operator("performance", "performance")
def operators(target: Target, call: DrawnCall) -> dict[str, Any]:
    """How long a call takes."""
    from infinicore.testing.conformance import REFUSALS, Launch

    call = larger(target, call)
    try:
        launch = Launch(call, target.device)
        own = measured(launch, target.device)
    except REFUSALS:
        call = target.sample(call.schema.name)
        own = measured(Launch(call, target.device), target.device)
    facts: dict[str, Any] = {"elements": elements(call), "microseconds": round(own * 1e6, 2)}
    if target.name != "cpu":
        try:
            facts["cpu"] = round(measured(Launch(call, ic.device("cpu")), ic.device("cpu")) * 1e6, 2)
        except ic.Error:
            pass
    theirs = torch_seconds(call)
    if theirs is not None:
        facts["torch"] = round(theirs * 1e6, 2)
    return facts


@check("performance", "performance")
def copies(target: Target) -> dict[str, Any]:
    """How fast memory is copied, in GB/s."""
    size = 1 << 24
    host = ic.from_numpy(np.zeros(size, np.uint8))
    device = host.to(target.device)
    other = ic.empty_like(device)
    wait = lambda: ic.synchronize(target.device)
    rates = {
        "to_device": seconds(lambda: device.copy_(host), wait),
        "to_host": seconds(lambda: host.copy_(device), wait),
        "on_device": seconds(lambda: other.copy_(device), wait),
    }
    return {name: round(size / 1e9 / value, 2) for name, value in rates.items()}
