# The host executor itself: what is right runs in any order of threads, what would hang or race on a device is
# reported. See simt.hpp.
"""Tests of the host executor."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
from pathlib import Path

import pytest

import infinicore

HERE = Path(__file__).resolve().parent
INCLUDE = Path(infinicore.__file__).resolve().parent / "include"
CASES = ["neighbour", "no_barrier", "all_lanes", "counting", "half_returns", "two_barriers"]
CASES += ["missing_lane", "two_shuffles", "warp_against_block", "leftovers"]
FORWARD, REVERSE, SHUFFLED = range(3)
#: Comment at the end of a line of cases.cpp -> what the executor calls that line.
PLACES = {
    line.rpartition("// ")[2]: f"cases.cpp:{number}"
    for number, line in enumerate((HERE / "cases.cpp").read_text().splitlines(), 1)
    if "  // " in line
}


class Executor:
    """A library of cases.cpp for one warp width."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.run_case.restype = ctypes.c_char_p

    def run(
        self, case: str, *, block: int = 256, grid: int = 1, order: int = FORWARD, shared: int = 64
    ) -> tuple[str, list[int]]:
        """Return what the executor says against the kernel, and what the kernel wrote."""
        out = (ctypes.c_int * (grid * max(block, 1) + 8))()
        said = self.library.run_case(CASES.index(case), order, grid, block, ctypes.c_size_t(shared), out)
        return said.decode(), list(out)


@pytest.fixture(scope="session", params=[32, 64, 128])
def executor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Executor:
    target = tmp_path_factory.mktemp("simt") / f"cases{request.param}.so"
    subprocess.run(
        [
            *shlex.split(os.environ.get("CXX", "c++")), "-std=c++17", "-O0", "-fPIC", "-shared", "-pthread",
            "-fvisibility=hidden", f"-DINFINI_WARP_WIDTH={request.param}", f"-I{INCLUDE}", f"-I{HERE.parent}",
            str(HERE / "cases.cpp"), str(HERE / "simt.cpp"), "-o", str(target),
        ],
        check=True,
    )  # fmt: skip
    found = Executor(target)
    assert found.library.lanes() == request.param
    return found


@pytest.mark.parametrize("order", [FORWARD, REVERSE, SHUFFLED])
@pytest.mark.parametrize("block", [128, 384, 1024])
def test_barriers_and_shared_memory(executor: Executor, block: int, order: int) -> None:
    said, out = executor.run("neighbour", block=block, grid=3, order=order)
    assert not said
    assert out[: 3 * block] == [(i + 1) % block for i in range(block)] * 3


@pytest.mark.parametrize("order", [FORWARD, REVERSE, SHUFFLED])
def test_a_missing_barrier_shows_in_some_order(executor: Executor, order: int) -> None:
    """The threads' order is the only luck that a race has: in every order here, this one is out of it."""
    said, out = executor.run("no_barrier", order=order)
    assert not said
    assert out[:256] != [(i + 1) % 256 for i in range(256)]


@pytest.mark.parametrize("order", [FORWARD, REVERSE, SHUFFLED])
def test_warp_operations(executor: Executor, order: int) -> None:
    width = executor.library.lanes()
    said, out = executor.run("all_lanes", block=256, order=order)
    assert not said
    for thread, value in enumerate(out[:256]):
        first = thread // width * width
        lane = thread - first
        total = sum(range(first, first + width))
        assert value == total + 1_000_000 * (lane > 0) + 10_000_000 * (lane == 0)


def test_atomics_and_grids(executor: Executor) -> None:
    said, out = executor.run("counting", block=128, grid=3)
    assert not said
    assert out[0] == 2 * 3 * sum(range(128)) + 128 * (2 * (0 + 1 + 2) + 3 * (0 + 1))
    assert out[1] == 128 * 3 * 2


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (
            "half_returns",
            "deadlock: thread 0 waits at {waits for threads that returned} for threads that never come",
        ),
        ("half_returns", "; 128 of 256 returned"),
        (
            "two_barriers",
            "different barriers: at {the even threads} and, thread (1, 0, 0), at {the odd threads}",
        ),
        ("missing_lane", "deadlock: thread 0 waits at {waits for lane 3}"),
        ("two_shuffles", "threads meet at different warp operations"),
        ("warp_against_block", "deadlock: thread 0 waits at {waits for the others}"),
    ],
)
def test_what_would_hang_is_reported(executor: Executor, case: str, words: str) -> None:
    said, _ = executor.run(case)
    assert "block (0, 0, 0) of (1, 1, 1)" in said
    assert words.format_map(PLACES) in said
    said, out = executor.run("neighbour")  # and the executor goes on
    assert not said
    assert out[0] == 1


def test_shared_memory_begins_as_garbage(executor: Executor) -> None:
    said, out = executor.run("leftovers", block=128, grid=3)
    assert not said
    assert out[:3] == [1, 1, 1]


@pytest.mark.parametrize(("block", "shared"), [(0, 0), (1025, 0), (32, 228 << 10)])
def test_blocks_that_no_device_runs(executor: Executor, block: int, shared: int) -> None:
    said, _ = executor.run("neighbour", block=block, shared=shared)
    assert said.startswith("simt: ")
