# The benchmark of a device of the CUDA family: each result is checked, then timed in turn with PyTorch's, and
# compared with what the device can do. See README.md beside this file.
"""Measure a GPU: ``python benchmarks/gpu --device cuda``."""

from __future__ import annotations

import argparse
import gc
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import report
from measuring import Clock, Maker, Peer, WrongResult, check, host_sampler, in_turn
from report import Result, Run
from rows import SMOKE, Row, Sizes, calls, rows
from step import Step

import infinicore as ic


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python benchmarks/gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help='a backend of the CUDA family: "cuda", "moore:1"')
    parser.add_argument("--only", default="", metavar="REGEX", help='rows whose "group: name" it matches')
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing, per row (1)")
    parser.add_argument("--mib", type=int, default=256, help="size of the tensors of memory-bound rows (256)")
    parser.add_argument("--no-torch", action="store_true", help="as if PyTorch were not installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, after every row")
    parser.add_argument("--write", type=Path, metavar="FILE", help="append the table: docs/hardware.md")
    parser.add_argument(
        "--smoke", action="store_true", help="tiny sizes, one sample: does it run? the figures mean nothing"
    )
    parser.add_argument("--patience", type=float, default=120.0, help="seconds until a row is given up (120)")
    parser.add_argument("--resume", type=Path, help=argparse.SUPPRESS)  # what a process before measured
    return parser.parse_args()


class Benchmark:
    """One run over one device."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.device = options, ic.device(options.device)
        self.sizes = SMOKE if options.smoke else replace(Sizes(), mib=options.mib)
        self.peer = Peer(self.device, not options.no_torch, options.smoke)
        self.maker = Maker(self.device, self.peer, "bfloat16")
        self.clock = Clock(self.device, self.sizes.flush)
        self.seconds = 0.0 if options.smoke else options.seconds
        self.run = Run(ic.device_info(self.device), self.peer.text, options.smoke)

    def go(self) -> int:
        """Measure every row that is asked for; 1 when a result was wrong or a row failed."""
        wanted = lambda row: re.search(self.options.only, f"{row.group}: {row.name}")
        alone = lambda group, name: Row(group, name, "", lambda m: [], print, print)
        tasks = chain(  # each is made when its turn comes
            [(alone("memory", "copy"), self.copy)],
            ((row, self.row) for row in filter(wanted, rows(self.sizes))),
            ((row, self.call) for row in filter(wanted, calls(self.sizes))),
            ((row, self.graph) for row in filter(wanted, [alone("graph", "decoding step")])),
        )
        if self.options.resume:
            self.run.resume(self.options.resume.read_text())
            self.options.resume.unlink()
        try:
            for row, measure in islice(tasks, self.run.rows, None):
                self.attempt(row, measure)
        finally:  # what was measured until a time limit, or Ctrl-C, is kept
            text = self.run.text()
            print(f"\n{text}")
            if self.options.write:
                report.append(self.options.write, text)
        return int(self.run.failed)

    def attempt(self, row: Row, measure: Callable[[Row], Result]) -> None:
        """Measure a row; what goes wrong is told in its place, and the others go on."""
        watch = threading.Timer(self.options.patience, self.give_up, [row])
        watch.start()
        try:
            result = measure(row)
        except (WrongResult, ic.Error, RuntimeError) as error:
            result = Result(row.group, row.name, row.size, error=f"{type(error).__name__}: {error}")
        watch.cancel()
        self.keep(result)
        if result.error and not self.usable():
            self.begin_anew()
        self.release()

    def keep(self, result: Result) -> None:
        """Add what came of a row, and write it down."""
        self.run.add(result)
        self.run.rows += 1
        print(result.line(), file=sys.stderr, flush=True)
        if self.options.json:
            self.options.json.write_text(self.run.json())

    def give_up(self, row: Row) -> None:
        """End a row that does not end, a kernel that waits for ever say: the main thread waits for it."""
        seconds = self.options.patience
        self.keep(Result(row.group, row.name, row.size, error=f"nothing came of it in {seconds:g} s"))
        self.begin_anew()

    def usable(self) -> bool:
        """Tell whether the device still computes: some errors are the last answer that a process gets."""
        try:
            return bool((ic.ones((1,), dtype=ic.float32, device=self.device) + 1.0).tolist() == [2.0])
        except ic.Error:
            return False

    def begin_anew(self) -> None:
        """Become a fresh process, which goes on behind this row."""
        handle, path = tempfile.mkstemp(suffix=".json")
        with os.fdopen(handle, "w") as file:
            file.write(self.run.json())
        print("the device is lost to this process: another one goes on", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.argv, "--resume", path])

    def release(self) -> None:
        """Give memory back, so that either library can have it."""
        gc.collect()
        ic.empty_cache(self.device)
        if self.peer.where != "cpu":
            getattr(self.peer.torch, self.device.torch_type).empty_cache()

    # ---- kinds of rows -------------------------------------------------------------------------------------

    def copy(self, _row: Row) -> Result:
        """Copy from device to device, by the faster library: the bandwidth that rows are shares of."""
        numbers = max(self.sizes.numbers, 1 << 10)
        sets = self.maker.sets(lambda m: [m.random(numbers), m.empty(numbers)], self.sizes.working_set)
        subjects = [[lambda s=s: s[1].ours.copy_(s[0].ours) for s in sets]]
        if self.peer.timed:
            subjects.append([lambda s=s: s[1].theirs.copy_(s[0].theirs) for s in sets])
        times = in_turn(self.clock.sample, subjects, self.seconds)
        moved = 2.0 * sets[0][0].ours.nbytes
        self.run.bandwidth = moved / min(time.median for time in times)
        return Result("memory", "copy", report.bytes_text(moved / 2), *times, moved=moved,
                      bandwidth=self.run.bandwidth)  # fmt: skip

    def row(self, row: Row) -> Result:
        """Check, then time by events, in turn with PyTorch."""
        torch = self.peer.torch
        sets = self.maker.sets(row.tensors, self.sizes.working_set)
        theirs = lambda *tensors: row.theirs(torch, *row.peer_arguments(torch, list(tensors)))
        error = check(self.peer, sets[0], row.results, row.ours, theirs, row.slack)
        subjects = [[lambda a=[p.ours for p in s]: row.ours(*a) for s in sets]]
        if self.peer.timed:
            prepared = [row.peer_arguments(torch, [p.theirs for p in s]) for s in sets]
            subjects.append([lambda a=a: row.theirs(torch, *a) for a in prepared])
        times = in_turn(self.clock.sample, subjects, self.seconds)
        return Result(row.group, row.name, row.size, *times, moved=row.moved, flops=row.flops, distance=error,
                      target=row.target, bandwidth=self.run.bandwidth)  # fmt: skip

    def call(self, row: Row) -> Result:
        """Time what a call costs the host."""
        torch = self.peer.torch
        tensors = row.tensors(self.maker)
        error = check(self.peer, tensors, row.results, row.ours, lambda *t: row.theirs(torch, *t))
        arguments = [p.ours for p in tensors]
        subjects = [[lambda: row.ours(*arguments)]]
        if self.peer.timed:
            others = [p.theirs for p in tensors]
            subjects.append([lambda: row.theirs(torch, *others)])
        times = in_turn(host_sampler(self.peer), subjects, self.seconds, 3e-4)
        return Result(row.group, row.name, row.size, *times, distance=error, target=row.target)

    def graph(self, _row: Row) -> Result:
        """Time a decoding step as one graph, the same eager, and eager PyTorch's."""
        step = Step(self.sizes, self.maker)
        pairs, torch = list(step.tensors.values()), self.peer.torch
        ours = [p.ours for p in pairs]
        theirs = lambda *tensors: step.theirs(torch, *step.prepare(torch, *tensors))
        error = check(self.peer, pairs, (-1,), step.ours, theirs, slack=5)
        eager = ours[-1].to("cpu").clone()
        with ic.graph(self.device) as recorded:
            step.ours(*ours)
        ours[-1].fill_(float("nan"))
        recorded.run()
        if recorded.run() or ours[-1].to("cpu").tobytes() != eager.tobytes():
            raise WrongResult("the replayed graph and the eager step differ")
        subjects: list[list[Any]] = [[recorded.run], [lambda: step.ours(*ours)]]
        if self.peer.timed:
            prepared = step.prepare(torch, *(p.theirs for p in pairs))
            subjects.append([lambda: step.theirs(torch, *prepared)])
        times = in_turn(self.clock.sample, subjects, self.seconds)
        how = "captured by the device" if recorded.captured else "replayed by core"
        alone = Result("graph", "decoding step, eager", step.size, times[1], *times[2:], moved=step.moved,
                       distance=error, bandwidth=self.run.bandwidth)  # fmt: skip
        self.run.add(alone)
        return Result("graph", f"decoding step as one graph, {how}", step.size, times[0], *times[2:],
                      moved=step.moved, distance=error, bandwidth=self.run.bandwidth,
                      against=("eager", times[1].median / times[0].median, 1.0))  # fmt: skip


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    sys.exit(Benchmark(parse()).go())
