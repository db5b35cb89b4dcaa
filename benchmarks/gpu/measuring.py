# How rows are made, checked and timed: tensors that our library and PyTorch share, events of the device,
# calls of both in turn, caches flushed before each sample.
"""Tensors, checks and clocks of the GPU benchmark."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import infinicore as ic

Call = Callable[[], Any]
#: Largest ``|got - want| / |want|`` of a whole result, by the dtype that it is rounded to.
TOLERANCE = {"bfloat16": 1e-2, "float16": 2e-3, "float32": 1e-4}
LONGEST = 400  # calls in a sample: a device queues about a thousand


class WrongResult(Exception):
    """A result that is not the reference's: its time would mean nothing."""


@dataclass
class Pair:
    """One tensor of ours and one of PyTorch's: the same memory where both are on the device, else a copy."""

    ours: Any
    theirs: Any = None
    poisoned: bool = False  # an output: filled with NaN before it is checked


class Peer:
    """PyTorch: on the device where it can be, else on the CPU, where it only checks.

    Parameters
    ----------
    device : infinicore.device
        What is measured.
    wanted : bool
        False does as if PyTorch were not installed.
    pretend : bool
        Time it on the CPU as well, only to run that code.
    """

    def __init__(self, device: ic.device, wanted: bool, pretend: bool) -> None:
        self.device, self.torch, self.where, self.timed = device, None, "cpu", False
        self.text = "not asked for"
        if not wanted:
            return
        try:
            import torch
        except ImportError:
            self.text = "not installed"
            return
        self.torch = torch
        if device.type == "cpu":  # no stream, no cache of memory to share
            self.timed, self.text = True, torch.__version__
            return
        where = f"{device.torch_type}:{device.index}"
        try:
            shared = ic.from_torch(torch.ones(4, device=where))
            self._share_a_stream(where)
            assert shared.tolist() == [1.0] * 4
            self.where, self.timed, self.text = where, True, f"{torch.__version__} on {where}"
        except (RuntimeError, AssertionError, ic.Error) as error:
            self.text = f"{torch.__version__}, on the CPU only: {str(error).splitlines()[0]}"
            self.timed = pretend

    def _share_a_stream(self, where: str) -> None:
        """Refuse to time PyTorch with events of a stream that it does not work on."""
        large = self.torch.ones(1 << 26, device=where)
        clock = Clock(self.device, 1 << 20)
        ic.synchronize(self.device)
        start = time.perf_counter()
        by_events = clock.sample([lambda: large.add_(1)], 50)
        by_host = (time.perf_counter() - start) / 50
        if by_events < by_host / 4:
            raise RuntimeError("its stream is not the current one of infinicore")

    def synchronize(self) -> None:
        """Wait for the device, whoever gave it work."""
        ic.synchronize(self.device)


class Maker:
    """Makes inputs and outputs for both libraries."""

    def __init__(self, device: ic.device, peer: Peer, dtype: str) -> None:
        self.device, self.peer, self.dtype = device, peer, dtype
        self.random_ = np.random.default_rng(0)
        if peer.torch is not None:
            peer.torch.manual_seed(0)

    def pair(self, theirs: Any, *, poisoned: bool = False) -> Pair:
        """Make ours of a tensor of PyTorch's."""
        ours = ic.from_torch(theirs)
        return Pair(ours if self.peer.where != "cpu" else ours.to(self.device, copy=True), theirs, poisoned)

    def random(self, *shape: int, scale: float = 1.0, dtype: str = "") -> Pair:
        """Draw normal numbers."""
        torch, dtype = self.peer.torch, dtype or self.dtype
        if torch is not None:
            drawn = torch.randn(shape, device=self.peer.where, dtype=getattr(torch, dtype))
            return self.pair(drawn.mul_(scale))
        drawn = self.random_.standard_normal(shape, np.float32) * np.float32(scale)
        return Pair(ic.from_numpy(drawn, dtype=getattr(ic, dtype), device=self.device))

    def empty(self, *shape: int, dtype: str = "") -> Pair:
        """Make room for a result."""
        torch, dtype = self.peer.torch, dtype or self.dtype
        if torch is not None:
            room = torch.empty(shape, device=self.peer.where, dtype=getattr(torch, dtype))
            return self.pair(room, poisoned=True)
        return Pair(ic.empty(shape, dtype=getattr(ic, dtype), device=self.device), None, True)

    def array(self, values: np.ndarray) -> Pair:
        """Take numbers of NumPy's, and their dtype."""
        if self.peer.torch is not None:
            return self.pair(self.peer.torch.from_numpy(values).to(self.peer.where, copy=True))
        return Pair(ic.from_numpy(values, device=self.device))

    def sets(self, make: Callable[[Maker], list[Pair]], working_set: int) -> list[list[Pair]]:
        """Make as many sets of tensors as it takes until no cache holds them all."""
        first = make(self)
        size = max(1, sum(pair.ours.nbytes for pair in first))
        return [first, *(make(self) for _ in range(min(31, -(-working_set // size) - 1)))]


# ---- checks ------------------------------------------------------------------------------------------------


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def float32_of_theirs(torch: Any, tensor: Any) -> Any:
    return tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor


def float32_of_ours(tensor: Any) -> Any:
    """Copy to the CPU; floats become f32."""
    host = tensor.to("cpu", copy=True)
    return host.to(dtype=ic.float32) if tensor.is_floating_point() else host


def check(
    peer: Peer,
    tensors: Sequence[Pair],
    results: Sequence[int],
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    slack: float = 1.0,
) -> float:
    """Run ours once, and compare with PyTorch in f32; with the CPU backend where PyTorch is absent.

    Parameters
    ----------
    peer : Peer
        Who computes the reference.
    tensors : sequence of Pair
        The arguments of both.
    results : sequence of int
        Which of them hold the result afterwards.
    ours : callable
        Gets our tensors.
    theirs : callable
        Gets PyTorch's, as f32; returns what `results` should hold.
    slack : float
        Multiplies the tolerance: results of many operators in a row.

    Returns
    -------
    float
        The largest ``|got - want| / |want|`` of the results.
    """
    torch = peer.torch
    if torch is not None:
        want = listed(theirs(*(float32_of_theirs(torch, pair.theirs) for pair in tensors)))
    else:
        copies = [float32_of_ours(pair.ours) for pair in tensors]
        ours(*copies)
        want = [copies[i].numpy().astype(np.float64) for i in results]
    for pair in tensors:
        if pair.poisoned:
            pair.ours.fill_(math.nan)
    ours(*(pair.ours for pair in tensors))
    ic.synchronize(peer.device)
    worst = 0.0
    for index, wanted in zip(results, want, strict=True):
        pair = tensors[index]
        if torch is None:
            got: Any = float32_of_ours(pair.ours).numpy().astype(np.float64)
        elif peer.where != "cpu":
            got = pair.theirs.float()
        else:
            got = pair.ours.to("cpu").to_torch().float()
        allowed = slack * TOLERANCE[pair.ours.dtype.name]
        difference = got - wanted
        error = math.sqrt(float((difference**2).sum()) / max(float((wanted**2).sum()), 1e-30))
        # The norm of a whole hides a row that is wrong; its largest element does not.
        largest = float(abs(difference).max()) / max(float(abs(wanted).max()), 1e-30)
        if not (error <= allowed and largest <= 5 * allowed):  # a NaN is not, either
            raise WrongResult(
                f"result {index}: |got - want| / |want| is {error:.2e} (at most {allowed:.0e}), of the "
                f"largest elements {largest:.2e} (at most {5 * allowed:.0e})"
            )
        worst = max(worst, error)
    return worst


# ---- clocks ------------------------------------------------------------------------------------------------


@dataclass
class Times:
    """Seconds per call."""

    least: float
    median: float
    samples: int


class Clock:
    """Times calls by events around them.

    Parameters
    ----------
    device : infinicore.device
        Where they run, on its current stream.
    flush_bytes : int
        Written before each sample: it empties caches, and keeps the device busy while the host runs ahead.
    """

    def __init__(self, device: ic.device, flush_bytes: int) -> None:
        self.begin, self.end = (ic.DeviceEvent(enable_timing=True, device=device) for _ in range(2))
        self.flushed = ic.empty((flush_bytes,), dtype=ic.uint8, device=device)

    def sample(self, calls: Sequence[Call], repeat: int) -> float:
        """Return seconds per call of `repeat` of the calls, one after the other."""
        self.flushed.zero_()
        self.begin.record()
        for i in range(repeat):
            calls[i % len(calls)]()
        self.end.record()
        self.end.synchronize()
        return max(self.begin.elapsed_time(self.end), 1e-6) * 1e-3 / repeat


def in_turn(sample: Callable[[Sequence[Call], int], float], subjects: list[list[Call]], seconds: float,
            each: float = 2e-3) -> list[Times]:  # fmt: skip
    """Time subjects alternately for about `seconds` in all, in samples of about `each`."""
    repeats = []
    for calls in subjects:
        sample(calls, len(calls))  # first uses: plans, memory, code
        once = sample(calls, max(2, len(calls)))
        repeats.append(max(1, min(LONGEST, round(each / once))))
    taken: list[list[float]] = [[] for _ in subjects]
    end = time.perf_counter() + seconds
    while not taken[0] or time.perf_counter() < end:
        for samples, calls, repeat in zip(taken, subjects, repeats, strict=True):
            samples.append(sample(calls, repeat))
    return [Times(min(samples), statistics.median(samples), len(samples)) for samples in taken]


def host_sampler(peer: Peer) -> Callable[[Sequence[Call], int], float]:
    """Sample what a call costs the host, while the device has room in its queue."""

    def sample(calls: Sequence[Call], repeat: int) -> float:
        peer.synchronize()
        start = time.perf_counter()
        for i in range(repeat):
            calls[i % len(calls)]()
        taken = (time.perf_counter() - start) / repeat
        peer.synchronize()
        return taken

    return sample
