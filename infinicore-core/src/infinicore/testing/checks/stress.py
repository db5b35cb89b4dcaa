# Much of everything at once: allocations of all sizes, long queues, many streams. No operator takes part, so
# that a wrong one is found once.
"""Load."""

from __future__ import annotations

import numpy as np

import infinicore as ic
from infinicore.testing.suite import Target, check


@check("stress", "stress")
def allocations(target: Target) -> None:
    """Memory of random sizes, taken and given back in random order, keeps what is written there."""
    random = np.random.default_rng(target.options.seed)
    kept: list[tuple[int, ic.Tensor]] = []
    for number in range(100 * target.options.iterations):
        size = int(2 ** random.uniform(0, 18))
        kept.append((number, ic.from_numpy(np.full(size, number, np.int32)).to(target.device)))
        if len(kept) > 32:
            content, tensor = kept.pop(int(random.integers(len(kept))))
            assert (tensor.to("cpu").numpy() == content).all(), (
                f"an allocation of {tensor.numel() * 4} bytes changed"
            )
    for content, tensor in kept:
        assert (tensor.to("cpu").numpy() == content).all(), "an allocation that was kept changed"


@check("stress", "stress")
def long_queue(target: Target) -> None:
    """Thousands of copies that wait for each other happen in their order."""
    tensors = [ic.from_numpy(np.full(64, i, np.int32)).to(target.device) for i in range(8)]
    ring = [ic.empty_like(tensors[0]) for _ in range(8)]
    steps = 400 * target.options.iterations
    for step in range(steps):
        ring[step % 8].copy_(tensors[step % 8] if step < 8 else ring[(step - 1) % 8])
    # From the eighth step on every copy hands on what the one before it wrote.
    assert (ring[(steps - 1) % 8].to("cpu").numpy() == 7).all(), "copies of one queue overtook each other"


@check("stress", "stress")
def many_streams(target: Target) -> None:
    """Many streams, each handing over to the next with an event."""
    array = np.arange(1 << 12, dtype=np.int32)
    tensor = ic.from_numpy(array).to(target.device)
    ic.synchronize(target.device)
    before, keep = None, []
    for _ in range(10 * target.options.iterations):
        stream = ic.Stream(target.device)
        if before is not None:
            stream.wait_event(before)
        with ic.stream(stream):
            following = ic.empty_like(tensor)
            following.copy_(tensor)
        before = stream.record_event()
        keep += [stream, tensor]
        tensor = following
    assert before is not None
    before.synchronize()
    assert (tensor.to("cpu").numpy() == array).all(), "a stream did not wait for the one before it"
