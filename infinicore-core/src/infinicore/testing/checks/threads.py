# Several threads on one device: kernels that share a descriptor, streams and devices that are a thread's own.
# What an operator gives must be what it gives when nothing else runs.
"""Threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

import infinicore as ic
from infinicore.testing.checks.lifecycle import same_as_before, varied
from infinicore.testing.suite import Target, check, check_each_operator

if TYPE_CHECKING:
    from infinicore.testing.strategies import DrawnCall


def together(target: Target, work: Callable[[int, Callable[[], object]], None]) -> None:
    """Run ``work(number, ready)`` on several threads; ``ready()`` waits until all have come so far."""
    count = max(2, target.options.threads)
    barrier = threading.Barrier(count, timeout=60)

    def one(number: int) -> None:
        try:
            work(number, barrier.wait)
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(one, number) for number in range(count)]
    errors = [error for error in (future.exception() for future in futures) if error is not None]
    first = [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
    if errors:
        raise (first or errors)[0]


@check_each_operator("concurrency", "threads")
def one_descriptor(target: Target, call: DrawnCall) -> None:
    """Threads that share a descriptor, each with its own data, get what each gets alone."""
    from infinicore.testing.conformance import Launch

    rounds = 2 + 2 * target.options.iterations
    count = max(2, target.options.threads)
    calls = [varied(call, number) for number in range(count)]
    alone = []
    for one in calls:
        launch = Launch(one, target.device)
        launch()
        alone.append(launch.values())
    descriptor = Launch(call, target.device).describe()

    def work(number: int, ready: Callable[[], object]) -> None:
        launches = [Launch(calls[number], target.device) for _ in range(rounds)]
        ready()
        for launch in launches:
            launch(descriptor)
        ready()
        for launch in launches:
            same_as_before(launch, alone[number], f"beside {count - 1} other threads")

    together(target, work)


@check("concurrency", "threads")
def current_stream(target: Target) -> None:
    """What one thread makes current is not current on another."""
    streams = [ic.Stream(target.device) for _ in range(max(2, target.options.threads))]

    def work(number: int, ready: Callable[[], object]) -> None:
        with ic.stream(streams[number]):
            ready()
            assert ic.current_stream(target.device) == streams[number], "another thread's stream is current"
            ready()

    together(target, work)


@check("concurrency", "threads")
def allocations(target: Target) -> None:
    """Memory that a thread has is no other thread's."""

    def work(number: int, ready: Callable[[], object]) -> None:
        random = np.random.default_rng(number)
        ready()
        for _ in range(10 * target.options.iterations):
            array = np.full(int(random.integers(1, 1 << 14)), number, np.int32)
            tensor = ic.from_numpy(array).to(target.device)
            back = tensor.to("cpu").numpy()
            assert (back == number).all(), "another thread wrote into the memory of this one"

    together(target, work)


@check("concurrency", "threads")
def streams(target: Target) -> None:
    """Every thread on a stream of its own sees its own work, in its order."""

    def work(number: int, ready: Callable[[], object]) -> None:
        stream = ic.Stream(target.device)
        with ic.stream(stream):
            ready()
            for step in range(5 * target.options.iterations):
                array = np.full(1 << 12, number * 1000 + step, np.int32)
                first = ic.from_numpy(array).to(target.device)
                second = ic.empty_like(first)
                second.copy_(first)
                assert (second.to("cpu").numpy() == array).all(), "a copy came before what it copies"

    together(target, work)
