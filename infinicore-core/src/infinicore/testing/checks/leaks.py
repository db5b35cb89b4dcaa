# Memory that does not come back, of the device and of the host. What grows in every one of several rounds, by
# at least a byte per repetition, grows without end; caches and pools stop growing after the first.
"""Leaks."""

from __future__ import annotations

import ctypes
import gc
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

import infinicore as ic
from infinicore.testing.checks.graphs import needs_copies
from infinicore.testing.suite import Target, check, check_each_operator

if TYPE_CHECKING:
    from infinicore.schema import Schema
    from infinicore.testing.conformance import Launch
    from infinicore.testing.strategies import DrawnCall

ROUNDS = 3
REPEAT = 48
SMALLEST = 16  # bytes: what malloc gives at least


class _Mallinfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def host_bytes() -> int | None:
    """Count the bytes that malloc has handed out in this process; None where it does not say."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return None
    mallinfo.restype = _Mallinfo
    info = mallinfo()
    return int(info.uordblks + info.hblkhd)


def device_bytes(target: Target) -> int | None:
    """Count the bytes in use on the device; None where its memory is the host's, which others use too."""
    if target.name == "cpu":
        return None
    used = ic.memory_info(target.device)
    return int(used[1] - used[0])


def grows(target: Target, action: Callable[[], object], what: str) -> None:
    """Repeat an action, and fail where memory grows every time, also when it is looked at for longer."""
    gc.freeze()  # what is there already need not be looked through again
    try:
        growth = growing(target, action, ROUNDS) and growing(target, action, 4 * ROUNDS)
    finally:
        gc.unfreeze()
    if growth is not None:
        place, step = growth
        raise AssertionError(
            f"{what}: {place} memory grows by {step / REPEAT:.0f} bytes or more each time, without end "
            f"({4 * ROUNDS} rounds of {REPEAT})"
        )


def growing(target: Target, action: Callable[[], object], rounds: int) -> tuple[str, int] | None:
    """Return which memory grew in every round, and by how much at least; None where none did."""
    usage: list[tuple[int | None, int | None]] = []
    for _ in range(rounds + 1):  # the first fills caches
        for _ in range(REPEAT):
            action()
        ic.synchronize(target.device)
        ic.empty_cache()
        gc.collect()
        usage.append((device_bytes(target), host_bytes()))
    for place, least, amounts in zip(
        ("device", "host"), (1, REPEAT * SMALLEST), zip(*usage[1:], strict=True), strict=True
    ):
        known = [amount for amount in amounts if amount is not None]
        steps = [b - a for a, b in itertools.pairwise(known)]
        if not steps or min(steps) < least:
            continue
        # A device may have other users, whose memory grows too, but not by as much in every round.
        if place == "host" or max(steps) <= 2 * min(steps):
            return place, min(steps)
    return None


@check_each_operator("leak", "leaks")
def descriptors(target: Target, call: DrawnCall) -> None:
    """Descriptors that are made, used and destroyed leave nothing behind, nor does one that is refused."""
    from infinicore.testing.conformance import REFUSALS, Launch

    launch = Launch(call, target.device)

    def once() -> None:
        launch(launch.describe())

    grows(target, once, f"a descriptor of {call.schema.name}")
    lacking = refused(target, call.schema)
    if lacking is None:
        return

    def fail() -> None:
        try:
            lacking.describe()
        except REFUSALS:
            pass

    grows(target, fail, f"a descriptor of {call.schema.name} that is refused")


def refused(target: Target, schema: Schema) -> Launch | None:
    """Look for a call that the signature allows and the kernel refuses; None where it refuses none."""
    from infinicore.testing.checks.operators import is_legal
    from infinicore.testing.conformance import REFUSALS, Launch
    from infinicore.testing.strategies import combinations

    for dtypes in itertools.islice(combinations(schema), 32):
        for call in [call.retyped(dtypes) for call in target.drawn(schema.name)[:2]]:
            if not is_legal(call):
                continue
            launch = Launch(call, target.device)
            try:
                launch.describe()
            except REFUSALS:
                return launch
            except ic.Error:
                continue  # that it should have been made is for the check of results to say
    return None


@check("leak", "leaks")
def tensors(target: Target) -> None:
    """Tensors."""
    array = np.arange(5000, dtype=np.float32)
    grows(target, lambda: ic.from_numpy(array).to(target.device).to("cpu"), "a tensor")


@check("leak", "leaks")
def streams_and_events(target: Target) -> None:
    """Streams and events."""

    def once() -> None:
        stream = ic.Stream(target.device)
        stream.record_event().synchronize()

    grows(target, once, "a stream with an event")


@check("leak", "leaks")
def graphs(target: Target) -> None:
    """Graphs."""
    needs_copies(target)
    source = ic.from_numpy(np.arange(64, dtype=np.float32)).to(target.device)
    copy = ic.empty_like(source)

    def once() -> None:
        with ic.graph(target.device) as graph:
            copy.copy_(source)
        graph.run()

    grows(target, once, "a graph")


@check("leak", "leaks")
def failures(target: Target) -> None:
    """Calls that fail."""

    def once() -> None:
        try:
            ic.empty((1 << 60,), dtype=ic.uint8, device=target.device)
        except ic.OutOfMemory:
            pass

    grows(target, once, "a failing allocation")
