# Ranks for the tests of collectives: threads of this process, or processes that run a snippet of Python.
# Whatever a test does to its processes, none may outlive it, and nothing may be left in /dev/shm.
"""Fixtures of the tests of collectives."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import infinicore as ic
from infinicore.distributed import Communicator

PATIENCE = 100.0  # seconds for what takes one or two: the machine may be busy

# What every process starts with: `comm` is its communicator, full() makes tensors.
PROLOGUE = """\
import os, sys, time
import infinicore as ic
from infinicore import distributed
from infinicore.distributed import Communicator, group
rank, size = int(sys.argv[1]), int(sys.argv[2])
def full(count, value, dtype=ic.float32):
    return ic.full((count,), value, dtype=dtype, device="cpu")
comm = Communicator(size, rank, sys.argv[3].encode(), "cpu")
"""


def segments() -> set[str]:
    """Names of shared segments that are in sight."""
    return {path.name for path in Path("/dev/shm").glob("infinicore-*")}


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Fail a test that leaves a segment behind."""
    before = segments()
    yield
    assert segments() <= before


class Processes:
    """Ranks that run one snippet each in a process of its own."""

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[str]] = []

    def start(
        self, size: int, snippet: str, *, prologue: str = PROLOGUE, timeout: float = 60, ranks: Any = None
    ) -> list[subprocess.Popen[str]]:
        """Start ranks 0 .. size - 1 (or only `ranks`); they give up a peer that is late after `timeout`."""
        name = Communicator.unique_id("cpu").decode()
        code = prologue + textwrap.dedent(snippet)
        environment = {**os.environ, "INFINICORE_CCL_TIMEOUT": str(timeout), "INFINICORE_NUM_THREADS": "1"}
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(rank), str(size), name],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for rank in (range(size) if ranks is None else ranks)
        ]  # fmt: skip
        self.running += started
        return started

    def run(self, size: int, snippet: str, **keywords: Any) -> list[str]:
        """Start the ranks, wait for them, and return what each printed; all must succeed."""
        return [finish(process) for process in self.start(size, snippet, **keywords)]

    def stop(self) -> None:
        """End what still runs."""
        for process in self.running:
            process.kill()
            process.communicate()


def finish(process: subprocess.Popen[str]) -> str:
    """What a process printed; it must end well, and before long."""
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, f"{process.args[-3:]}: {out}{err}"  # type: ignore[index]
    return out


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Start ranks as processes."""
    started = Processes()
    yield started
    started.stop()


def run_threads(backend: str, size: int, function: Callable[[Communicator], Any]) -> list[Any]:
    """Call a function with each communicator of a new group, on a thread and a stream each."""
    count = ic.context.get_device_count(backend)
    communicators = Communicator.all([f"{backend}:{rank % count}" for rank in range(size)])

    def call(communicator: Communicator) -> Any:
        with ic.stream(ic.Stream(communicator.device)):
            return function(communicator)

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(call, communicator) for communicator in communicators]
        results = [future.result(timeout=PATIENCE) for future in futures]
    for communicator in communicators:
        communicator.destroy()
    return results


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """Run ranks as threads: ``threads(backend, size, function)``."""
    request.getfixturevalue("sim")
    return run_threads
