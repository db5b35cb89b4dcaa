# The kernels of infinicore_cuda/hopper on the CUDA double: their text, from descriptors and swizzles to
# masks, against the CPU backend. Each group of calls runs in a process of its own, which turns them on.
from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

HERE = Path(__file__).parent

PREAMBLE = """
random = np.random.default_rng(7)
X = lambda *shape: random.standard_normal(shape).astype(np.float32)
I = lambda *values: np.array(values, np.int32)
maps = lambda: live("tensor map")

def check(name, function, *arrays, dtype=ic.bfloat16, taken=True):
    "Compare with the CPU in f32; the double counts the maps of q, k and v that a Hopper kernel needs."
    host = [ic.from_numpy(a) for a in arrays]
    host = [t.to(dtype) if t.dtype == ic.float32 else t for t in host]
    before = maps()
    got = function(*(t.to("cuda") for t in host)).to("cpu").to(ic.float32).numpy()
    encoded = maps() - before
    want = function(*(t.to(ic.float32) if t.dtype == dtype else t for t in host)).numpy()
    error = np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-30)
    # Weights are rounded to the type of the values before they are multiplied, as on every tensor core.
    limit = {ic.bfloat16: 4e-3, ic.float16: 5e-4, ic.float32: 1e-5}[dtype]
    good = np.isfinite(got).all() and error < limit and encoded == 3 * taken
    print("good" if good else f"{name}: error {error:.1e}, {encoded} maps")
"""

DENSE = """
def mha(b, s, l, h, kv, d, causal, **options):
    call, key = lambda q, k, v: ic.mha(q, k, v, None, d ** -0.5, causal), (b, l, kv, d)
    check(f"mha {b} {s} {l} {h} {kv} {d} {causal}", call, X(b, s, h, d), X(*key), X(*key), **options)

mha(1, 300, 300, 4, 2, 128, True)          # two tiles of queries for a block, and one that is left
mha(2, 70, 200, 2, 1, 64, True)            # one tile for a block
mha(1, 200, 70, 1, 1, 128, True)           # rows that see nothing
mha(1, 130, 129, 1, 1, 64, False, dtype=ic.float16)
mha(2, 3, 150, 6, 2, 128, True)            # few rows: the heads of a group share a tile
mha(1, 9, 520, 7, 1, 64, False)            # 63 of 64 rows are used
mha(1, 65, 2100, 1, 1, 64, True)           # more places for blocks than blocks: the keys are split
call = lambda q, k, v: ic.scaled_dot_product_attention(q, k, v, None, 0.0, True)
check("sdpa", call, X(2, 3, 140, 64), X(2, 3, 150, 64), X(2, 3, 150, 64), dtype=ic.float16)
call = lambda q, k, v, a, b: ic.mha_varlen(q, k, v, a, b, None, 500, 500, None, 0.1)
packed = I(0, 33, 33, 38, 205), I(2, 66, 70, 75, 290)
k, v = X(300, 2, 64), X(300, 2, 64)
k[:2] = v[:2] = k[290:] = v[290:] = np.nan  # of no sequence
check("varlen", call, X(210, 4, 64), k, v, *packed)
"""

PAGED = """
table = random.permutation(80).reshape(2, 40).astype(np.int32)
call = lambda q, k, v, table, lens: ic.paged_attention(q, k, v, table, lens, None, 0.1)
k, v = X(80, 2, 16, 128), X(80, 2, 16, 128)
k[table[1, 32], :, 3:] = v[table[1, 32], :, 3:] = np.nan  # behind the last key
check("decode", call, X(2, 8, 128), k, v, table, I(640, 515))
check("decode 64", call, X(2, 6, 64), X(80, 2, 16, 64), X(80, 2, 16, 64), table, I(0, 13), dtype=ic.float16)
table[1, 20:] = -1  # entries past its length name no page
check("short", call, X(2, 4, 128), X(80, 4, 8, 128), X(80, 4, 8, 128), table, I(320, 100))
call = lambda q, k, v, table, past, cuts: ic.paged_attention_prefill(q, k, v, table, past, cuts, None, 0.1)
check("prefill", call, X(160, 2, 128), X(80, 1, 16, 128), X(80, 1, 16, 128), table, I(100, 7), I(3, 140, 157))
call = lambda q, k, v, a, b, table: ic.mha_varlen(q, k, v, a, b, table, 500, 500, None, 0.1)
check("varlen", call, X(200, 2, 64), X(80, 64, 1, 64), X(80, 64, 1, 64), I(3, 33, 190), I(2, 66, 300), table)
call = lambda q, k, v, lens, table: ic.mha_kvcache(q, k, v, lens, table, None, 0.1)
pages = np.arange(8, dtype=np.int32).reshape(2, 4)
check("large pages", call, X(2, 3, 6, 64), X(9, 256, 2, 64), X(9, 256, 2, 64), I(300, 1024), pages)
"""

SELECTION = """
q, k = X(1, 70, 2, 64), X(1, 80, 1, 64)
mha = lambda *tensors: ic.mha(*tensors, None, 0.1)
check("as it is", mha, q, k, k)
check("f32", mha, q, k, k, dtype=ic.float32, taken=False)
check("heads of 96", mha, X(1, 70, 2, 96), X(1, 80, 1, 96), X(1, 80, 1, 96), taken=False)
slopes = lambda q, k, v: ic.mha(q, k, v, ic.ones((2,), dtype=ic.float32, device=q.device), 0.1)
check("slopes", slopes, q, k, k, taken=False)
check("a negative scale", lambda *t: ic.mha(*t, None, -0.1), q, k, k, taken=False)
odd = lambda q, k, v: ic.mha(q.narrow(3, 1, 64), k, v, None, 0.1)
check("not aligned", odd, X(1, 70, 2, 72), k, k, taken=False)
table = np.arange(20, dtype=np.int32).reshape(1, 20)
paged = lambda q, k, v, table, lens: ic.paged_attention(q, k, v, table, lens, None, 0.1)
check("pages of 12", paged, X(1, 2, 64), X(20, 1, 12, 64), X(20, 1, 12, 64), table, I(200), taken=False)
check("more heads than rows of a tile", mha, X(1, 1, 65, 64), X(1, 90, 1, 64), X(1, 90, 1, 64))
"""


@pytest.mark.parametrize("order", ["reverse", "shuffled"])  # of threads, between two barriers
@pytest.mark.parametrize("calls", [DENSE, PAGED], ids=["dense", "paged"])
def test_results_are_those_of_the_cpu(python, calls: str, order: str) -> None:
    said = python(PREAMBLE + calls, INFINICORE_CUDA_HOPPER="1", SIMT_ORDER=order).split("\n")[:-1]
    assert [line for line in said if line != "good"] == []
    assert len(said) == calls.count("\nmha(") + calls.count("check(") - ("def mha" in calls)


def test_only_calls_that_suit_are_taken(python) -> None:
    said = python(PREAMBLE + SELECTION, INFINICORE_CUDA_HOPPER="1").split()
    assert said == ["good"] * SELECTION.count("check(")


@pytest.mark.parametrize(
    "environment",
    [{}, {"INFINICORE_CUDA_HOPPER": "0"}, {"INFINICORE_CUDA_HOPPER": "1", "CUDA_DOUBLE": "capability=80"}],
    ids=["not asked for", "turned off", "another chip"],
)
def test_the_portable_kernels_otherwise(python, environment: dict[str, str]) -> None:
    call = 'check("", lambda *t: ic.mha(*t, None, 0.1), X(1, 70, 2, 64), X(1, 80, 1, 64), X(1, 80, 1, 64), '
    assert python(PREAMBLE + call + "taken=False)", **environment) == "good\n"


def test_a_map_that_the_driver_refuses(python) -> None:
    said = python(
        PREAMBLE + "q = on(X(1, 70, 2, 64)).to(ic.float16)\nerror_of(ic.mha, q, q, q)",
        INFINICORE_CUDA_HOPPER="1",
        CUDA_DOUBLE="fail=cuTensorMapEncodeTiled:2:1",
    )
    assert said == "InternalError mha: cuTensorMapEncodeTiled: error 1\n"


# ---- the executor's emulation ------------------------------------------------------------------------------

CASES = re.findall(r"^  (\w+),? +//|^  (right|no_fence),", (HERE / "hopper_cases.cpp").read_text(), re.M)
NUMBERS = {a or b: number for number, (a, b) in enumerate(CASES)}


@pytest.fixture(scope="session")
def cases(build: ModuleType, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    target, simt = tmp_path_factory.mktemp("hopper") / "cases.so", build.host_executor()
    executor = (folder.parent / "simt" / "objects" / f"{unit.stem}.32.o" for unit in simt.EXECUTOR)
    inputs = [HERE / "hopper_cases.cpp", folder / "objects" / "hopper.o", *executor]
    flags = [*simt.FLAGS, *build.HOPPER_FLAGS, f"-I{build.SOURCES}", "-shared", "-pthread", "-o", str(target)]
    subprocess.run([*simt.compiler(), *map(str, inputs), *flags], check=True)
    library = ctypes.CDLL(str(target))
    library.run_case.restype = ctypes.c_char_p
    return library


def run(cases: ctypes.CDLL, case: str) -> tuple[str, bool]:
    """Return what the executor says against the kernel, and whether the numbers are right: small integers."""
    q, k, v = np.random.default_rng(3).integers(-2, 3, (3, 64, 64)).astype(np.float16)
    out = np.full((64, 64), np.nan, np.float32)
    said = cases.run_case(NUMBERS[case], *(ctypes.c_void_p(a.ctypes.data) for a in (q, k, v, out)))
    return said.decode(), bool((out == q.astype(float) @ k.astype(float).T @ v.astype(float)).all())


def test_copies_and_products(cases: ctypes.CDLL) -> None:
    assert run(cases, "right") == ("", True)


@pytest.mark.parametrize(
    "case", ["no_wait_for_copies", "no_wait_for_product", "overwritten_too_early", "weights_changed"]
)
def test_what_is_used_too_early_is_wrong(cases: ctypes.CDLL, case: str) -> None:
    assert run(cases, case) == ("", False)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no_fence", "a product of registers that no fence was executed for"),
        ("too_many_bytes", "deadlock: 128 threads wait at hopper_cases.cpp:"),
        ("never_begun", "a barrier that was not initialised"),
        ("one_too_many", "more threads arrive at a barrier than it was initialised for"),
        ("other_numbers", "threads come to barrier 1 for different numbers of them"),
        ("other_operands", "threads of a warpgroup issue different products"),
        ("wrong_descriptor", "a matrix descriptor with bits that must be 0"),
    ],
)
def test_what_is_undefined_is_reported(cases: ctypes.CDLL, case: str, words: str) -> None:
    said, _ = run(cases, case)
    assert words in said
    assert run(cases, "right") == ("", True)  # and the executor goes on
