# The host executor itself: what is right runs in any order of threads, what would hang or race on a device is
# reported. See simt.hpp.
"""Tests of the host executor."""

from __future__ import annotations

import ctypes
import math
import re
import runpy
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
BUILD = runpy.run_path(str(HERE / "build.py"))
COMPILE = [*BUILD["compiler"](), *BUILD["FLAGS"]]
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
        self,
        case: str,
        *,
        block: int = 256,
        grid: int = 1,
        depth: int = 1,
        order: int = FORWARD,
        shared: int = 64,
    ) -> tuple[str, list[int]]:
        """Return what the executor says against the kernel, and what the kernel wrote."""
        count = grid * max(block, 1) + 8
        out = (ctypes.c_int * (count + 64))()
        size = (ctypes.c_size_t(shared), out, ctypes.c_size_t(4 * count))
        said = self.library.run_case(case.encode(), order, grid, depth, block, *size)
        return said.decode(), list(out)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Compile the executor, which is one for all widths; return its objects."""
    folder = tmp_path_factory.mktemp("executor")
    sources, objects = BUILD["EXECUTOR"], []
    for source in sources:
        objects.append(str(folder / f"{source.stem}.o"))
        subprocess.run([*COMPILE, "-g0", "-c", str(source), "-o", objects[-1]], check=True)
    return objects


@pytest.fixture(scope="session", params=BUILD["WIDTHS"])
def executor(
    request: pytest.FixtureRequest, compiled: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Executor:
    folder = tmp_path_factory.mktemp("cases")
    objects, target = folder / "cases.o", folder / f"cases{request.param}.so"
    flags = [*COMPILE, *BUILD["WATCHED"], "-O0", f"-DINFINI_WARP_WIDTH={request.param}"]
    subprocess.run([*flags, "-c", str(HERE / "cases.cpp"), "-o", str(objects)], check=True)
    subprocess.run(
        [*COMPILE, "-shared", "-pthread", str(objects), *compiled, "-ldl", "-o", str(target)], check=True
    )
    found = Executor(target)
    assert found.library.lanes() == request.param
    return found


@pytest.mark.parametrize("order", [FORWARD, REVERSE, SHUFFLED])
@pytest.mark.parametrize("block", [128, 384, 1024])
def test_barriers_and_shared_memory(executor: Executor, block: int, order: int) -> None:
    said, out = executor.run("neighbour", block=block, grid=3, order=order)
    assert not said
    assert out[: 3 * block] == [(i + 1) % block for i in range(block)] * 3


#: Kernels that race -> the same without the mistake, the kind of race, the memory, the lines that meet.
RACES = {
    "no_barrier": ("neighbour", "read/write", "shared", "its own|its neighbour's"),
    "other_warp": ("warp_neighbour", "read/write", "shared", "a warp writes|a warp reads"),
    "warp_neighbour_after_shuffle": ("warp_neighbour", "read/write", "shared", "a warp writes|a warp reads"),
    "double_buffer_off_by_one": ("double_buffer", "read/write", "buffers", "this round|next round"),
    "tree_sum_without_barrier": ("tree_sum", "read/write", "shared", "a level of the tree"),
    "overwritten_too_early": (
        "overwritten",
        "read/write",
        "shared",
        "over what others read|what is overwritten",
    ),
    "all_write": ("one_writes", "write/write", "shared", "everybody"),
    "counter_read_too_early": ("counter", "read/write", "count", "counts|looks"),
    "bytes_of_others": ("bytes", "write/write", "shared", "a byte"),
    "global_neighbour_without_barrier": ("global_neighbour", "read/write", "", "global write|global read"),
    "blocks_meet": ("blocks_apart", "write/write", "", "once a block"),
}
RACE = re.compile(
    r"simt: block \(\d+, 0, 0\) of \(\d, 1, 1\): race \((?P<kind>[a-z/]+)\) in .*::(?P<kernel>\w+)[<(].*: "
    r"thread (?P<mine>\(\d+, 0, 0\)) (?P<does>reads|writes|atomically changes) (?P<bytes>\d) bytes? of "
    r"(?:shared memory, at byte (?P<offset>\d+) of (?P<array>\w+), which has (?P<size>\d+) bytes?"
    r"|global memory, .*) \((?P<here>[\w.:]+)\), which thread (?P<theirs>\(\d+, 0, 0\))"
    r"(?P<block> of block \(\d, 0, 0\))? "
    r"(?P<did>reads|writes|atomically changes) \((?P<there>[\w.:]+)\) "
    r"with no (barrier between them|order between blocks)"
)


@pytest.mark.parametrize("order", [FORWARD, REVERSE, SHUFFLED])
@pytest.mark.parametrize("wrong", RACES)
def test_a_race_is_found_in_any_order(executor: Executor, wrong: str, order: int) -> None:
    right, kind, array, lines = RACES[wrong]
    grid = 3 if wrong == "blocks_meet" else 1
    said, _ = executor.run(wrong, grid=grid, order=order)
    found = RACE.fullmatch(said)
    assert found, said
    assert found["kind"] == kind
    assert {found["here"], found["there"]} <= {PLACES[line] for line in lines.split("|")}
    assert (found["mine"], "") != (found["theirs"], found["block"] or "")
    assert (found["does"] == "reads" or found["did"] == "reads") == (kind == "read/write")
    if array:
        assert found["array"] == array
        assert int(found["offset"]) + int(found["bytes"]) <= int(found["size"])
    said, _ = executor.run(right, grid=grid, order=order)
    assert not said


@pytest.mark.parametrize("order", [FORWARD, REVERSE, SHUFFLED])
def test_blocks_and_reductions_one_after_the_other_do_not_race(executor: Executor, order: int) -> None:
    said, out = executor.run("reduced_twice", order=order)
    assert not said
    assert out[:256] == [256 * sum(range(256))] * 256


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (
            "beyond_array",
            "thread (20, 0, 0) writes 4 bytes of shared memory, at byte 80 of shared, which has 80",
        ),
        (
            "beyond_dynamic",
            "reads 4 bytes of shared memory, at byte 64 of dynamic shared memory, which has 64",
        ),
        ("before_dynamic", "reads 4 bytes of shared memory"),
        ("constant_memory", "writes 4 bytes of memory of the host"),
        ("beyond_allocation", "writes 4 bytes of memory that is in no allocation"),
        ("host_memory", "writes 4 bytes of memory of the host"),
        ("local_memory", "reads 4 bytes of another thread's local memory"),
    ],
)
def test_what_is_out_of_bounds_is_found(executor: Executor, case: str, words: str) -> None:
    said, _ = executor.run(case, block=128)
    assert f"out of bounds in infini::cudalike::(anonymous namespace)::{case}(int*): thread " in said
    assert words in said
    line = {
        "beyond_array": "one too many",
        "beyond_dynamic": "after the last",
        "before_dynamic": "before the first",
        "constant_memory": "of the program",
        "beyond_allocation": "after the allocation",
        "host_memory": "of the host",
        "local_memory": "of another thread",
    }[case]
    assert said.endswith(f"({PLACES[line]})")


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
    said, out = executor.run("counting", block=128, grid=3, depth=2)
    assert not said
    assert out[0] == 2 * 3 * sum(range(128)) + 128 * (2 * (0 + 1 + 2) + 3 * (0 + 1))
    assert out[1] == 128 * 3 * 2


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (
            "half_returns",
            "deadlock: 128 threads wait at {waits for threads that returned} for all 256 threads of the "
            "block, the first (0, 0, 0); 128 of 256 returned",
        ),
        (
            "two_barriers",
            "different barriers: at {the even threads} and, thread (1, 0, 0), at {the odd threads}",
        ),
        ("missing_lane", " threads wait at {waits for lane 3} for all "),
        ("missing_lane", " lanes of the warp, the first (0, 0, 0); "),
        ("two_shuffles", "threads meet at different warp operations"),
        (
            "warp_against_block",
            "deadlock: 5 threads wait at {waits for the others} for all 256 threads of the",
        ),
        ("warp_against_block", " threads wait at {waits for the first five} for all "),
        (
            "partial_warp",
            "a warp operation at {a lane is missing} in a block of 249 threads, which is no whole",
        ),
        ("lane_beyond", " of a warp of "),
        ("lane_beyond", ", at {no such lane}"),
        (
            "too_much_shared",
            "with other_half the block uses 49232 bytes of shared memory, but a block has 49152",
        ),
    ],
)
def test_what_would_hang_is_reported(executor: Executor, case: str, words: str) -> None:
    said, _ = executor.run(case, block=249 if case == "partial_warp" else 256)
    assert "block (0, 0, 0) of (1, 1, 1)" in said
    assert words.format_map(PLACES) in said
    said, out = executor.run("neighbour")  # and the executor goes on
    assert not said
    assert out[0] == 1


def test_shared_memory_begins_as_garbage(executor: Executor) -> None:
    said, out = executor.run("leftovers", block=128, grid=3)
    assert not said
    assert out[:3] == [1, 1, 1]


@pytest.mark.parametrize(("block", "shared"), [(0, 0), (1025, 0), (32, (48 << 10) + 4)])
def test_blocks_that_no_device_runs(executor: Executor, block: int, shared: int) -> None:
    said, _ = executor.run("neighbour", block=block, shared=shared)
    assert said.startswith("simt: ")


def test_blocks_keep_to_the_launch_bounds(executor: Executor) -> None:
    names = [f"one_warp_{number}" for number in range(4)]
    assert [executor.run(name, block=32)[0] for name in names] == [""] * 4
    refused = [said for name in names if (said := executor.run(name, block=1024)[0])]
    assert refused and refused[0].startswith("simt: blocks of 1024 threads, but no __launch_bounds__")


def test_a_vector_that_is_not_aligned(executor: Executor) -> None:
    said, _ = executor.run("misaligned_vector", block=128)
    assert "misaligned in infini::cudalike::(anonymous namespace)::misaligned_vector(int*)" in said
    assert said.endswith(f"({PLACES['from its second half on']})")


@pytest.mark.parametrize(
    ("count", "chunk", "blocks"),
    [(10, 4, 3), (5, 4, 3), (0, 4, 2), ((1 << 31) - 1, 1 << 30, 3), (6, (1 << 31) // 1025, 1025)],
)
def test_chunks_of_blocks_end_with_the_elements(
    executor: Executor, count: int, chunk: int, blocks: int
) -> None:
    """The last part of a tensor that is cut is smaller than those before it, and needs fewer blocks."""
    found = (ctypes.c_uint32 * (2 * blocks))()
    executor.library.stretches(count, chunk, blocks, found)
    assert list(found) == [min(chunk * (i + j), count) for i in range(blocks) for j in (0, 1)]


@pytest.mark.parametrize(
    "shape", [(5, 7), (1 << 31,), ((1 << 31) - 1,), (3, 1 << 31), (70_000, 70_000), (3, 5, 1 << 16, 1 << 15)]
)
def test_what_31_bits_cannot_count_is_cut(executor: Executor, shape: tuple[int, ...]) -> None:
    """Kernels count elements in 31 bits: the host cuts larger tensors, no element left out or twice."""
    found = (ctypes.c_int64 * 3 * 64)()
    number = executor.library.cut((ctypes.c_int64 * len(shape))(*shape), len(shape), found)
    begin = 0
    for count, first, last in map(list, found[:number]):
        assert 0 < count < 1 << 31
        assert (first, last) == (begin, begin + count - 1)
        begin += count
    assert begin == math.prod(shape)
    assert (number == 1) == (begin < 1 << 31)
