# Recording and replay: of every operator, on other data than it was recorded with, compared with the device's
# own eager result.
"""Graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import infinicore as ic
from infinicore.testing.checks.lifecycle import same_as_before, varied
from infinicore.testing.suite import Skip, Target, check, check_each_operator

if TYPE_CHECKING:
    from infinicore.testing.strategies import DrawnCall

__all__ = ["needs_copies"]

REPLAYS = 3


def memories(placed: list[Any]) -> list[Any]:
    """List the tensors in memory of a call, each once."""
    from infinicore.testing.conformance import PlacedTensor

    found = [item for value in placed for item in (value if isinstance(value, tuple) else (value,))]
    return [item for item in found if isinstance(item, PlacedTensor)]


@check_each_operator("basic", "graphs")
def replay(target: Target, call: DrawnCall) -> None:
    """What is recorded does not run then, and computes anew at every replay."""
    from infinicore.testing.conformance import Launch

    if call.schema.count is not None:
        raise Skip("the size of its result depends on elements, so that it cannot be recorded")
    recorded = Launch(call, target.device)
    untouched = [item.memory() for item in memories(recorded.placed)]
    with ic.graph(target.device) as graph:
        recorded()
    for item, before in zip(memories(recorded.placed), untouched, strict=True):
        assert item.memory().tobytes() == before.tobytes(), f"{call}: it ran while it was recorded"
    for number in range(1, REPLAYS + 1):
        eager = Launch(varied(call, number), target.device)
        for item, source in zip(memories(recorded.placed), memories(eager.placed), strict=True):
            item.storage.copy_(source.storage)
        eager()
        graph.run()
        same_as_before(recorded, eager.values(), f"of replay {number}")


def needs_copies(target: Target) -> None:
    """Skip where copies cannot be recorded: in a graph the operator `rearrange` makes them."""
    if "rearrange" not in target.native:
        raise Skip("copies are recorded as the operator rearrange, which has no kernel")


@check("basic", "graphs")
def replay_elsewhere(target: Target) -> None:
    """A graph runs on any stream of its device, in the order of that stream."""
    needs_copies(target)
    array = np.arange(1 << 12, dtype=np.float32)
    source = ic.from_numpy(array).to(target.device)
    copy = ic.zeros(source.shape, dtype=source.dtype, device="cpu").to(target.device)
    with ic.graph(target.device) as graph:
        copy.copy_(source)
    stream = ic.Stream(target.device)
    graph.run(stream)
    stream.synchronize()
    assert (copy.to("cpu").numpy() == array).all(), "a graph that ran on another stream did not do its work"


@check("basic", "graphs")
def updates(target: Target) -> None:
    """An updated graph does what the other recorded, whether it has as many calls or more."""
    needs_copies(target)
    arrays = [np.full(1 << 12, value, np.float32) for value in (1, 2, 3)]
    first, second, third = (ic.from_numpy(array).to(target.device) for array in arrays)
    copy = ic.zeros(first.shape, dtype=first.dtype, device="cpu").to(target.device)
    graphs = []
    for sources in ((first,), (second,), (second, third)):
        with ic.graph(target.device) as graph:
            for source in sources:
                copy.copy_(source)
        graphs.append(graph)
    updated, *others = graphs
    for graph, wanted in zip(others, arrays[1:], strict=True):
        updated.update(graph)
        updated.run()
        assert (copy.to("cpu").numpy() == wanted).all(), "an updated graph did not do the other's work"
