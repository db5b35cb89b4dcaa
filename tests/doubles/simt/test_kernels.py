# The kernels of infinicore/cudalike on the host executor: every operator against its float64 reference, at
# the warp widths and in the thread orders that devices may have, and large calls against the CPU backend.
"""Tests of the kernels that CUDA-like vendors share."""

from __future__ import annotations

import ctypes
import os
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import infinicore as ic
from infinicore import ops
from infinicore._backend import backends
from infinicore.schema import DTYPES, OPERATORS
from infinicore.testing.conformance import check, read
from infinicore.testing.strategies import calls

HERE = Path(__file__).resolve().parent
BUILD = runpy.run_path(str(HERE / "build.py"))
WIDTHS, build, families = BUILD["WIDTHS"], BUILD["build"], BUILD["families"]
depends_on_width = BUILD["depends_on_width"]
# Compiling them takes minutes: `nox -s doubles` asks for it.
pytestmark = pytest.mark.skipif(
    os.environ.get("INFINICORE_TEST_TIER") != "double", reason="INFINICORE_TEST_TIER is not double"
)
FORWARD, REVERSE, SHUFFLED = range(3)
ORDERS = dict(zip(WIDTHS, (FORWARD, REVERSE, SHUFFLED), strict=True))
NAMES = sorted(OPERATORS)


def operators_with_warps() -> set[str]:
    """List the operators whose kernels depend on the width of a warp."""
    texts = [header.read_text() for header in families() if depends_on_width(header)]
    return {name for name in NAMES for text in texts if f"KERNEL({name}," in text}


WARPED = operators_with_warps()
CASES = [(width, name) for width in WIDTHS for name in NAMES if width == WIDTHS[0] or name in WARPED]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Build the libraries, and let infinicore find them."""
    made = build(Path(os.environ.get("INFINICORE_TEST_SIMT") or tmp_path_factory.mktemp("simt")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INFINICORE_BACKEND_PATH", str(made))
        backends.refresh()
        yield made


def device_of(folder: Path, width: int, order: int) -> ic.device:
    device = ic.device(f"simt{width}")
    ic.empty((1,), dtype=ic.float32, device=device)
    ctypes.CDLL(str(folder / f"libinfinicore_simt{width}.so")).infinicore_simt_order(order)
    return device


def test_every_operator_has_a_kernel(folder: Path) -> None:
    texts = "".join(header.read_text() for header in families())
    assert [name for name in NAMES if f"KERNEL({name}," not in texts] == []


@pytest.mark.parametrize(("width", "name"), CASES)
@settings(max_examples=6, phases=[Phase.generate], derandomize=True, database=None)
@given(data=st.data())
def test_result_is_the_reference(folder: Path, width: int, name: str, data: st.DataObject) -> None:
    device = device_of(folder, width, ORDERS[width])
    call = data.draw(calls(OPERATORS[name]))
    try:
        check(call, device)
    except ic.OperatorNotSupported as error:
        assert "has no kernel for dtype" in str(error)


# ---- large calls: splits, several pieces of a row, vectors, merges -----------------------------------------

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal
F16, F32, I32 = np.float16, np.float32, np.int32


def pages(shape: tuple[int, ...], dtype: type) -> list[np.ndarray]:
    return [X(shape).astype(dtype) for _ in range(2)]


TABLE = RANDOM.permutation(80).reshape(2, 40).astype(I32)
LARGE: dict[str, tuple[Callable[..., object], list[np.ndarray], float]] = {
    "sum of all": (ic.sum, [RANDOM.integers(-9, 9, (3, 40_001)).astype(F32)], 0),
    "sum of columns": (lambda x: ic.sum(x, 0), [RANDOM.integers(-9, 9, (300, 70)).astype(F32)], 0),
    "var of long rows": (lambda x: ic.var(x, 1), [X((2, 40_000)).astype(F32)], 1e-5),
    "max of long rows": (lambda x: ic.max(x, 1), [X((2, 40_000)).astype(F32)], 0),
    "argmin of columns": (lambda x: ic.argmin(x, 0), [X((300, 70)).astype(F32)], 0),
    "any of long rows": (lambda x: ic.any(x, 1), [RANDOM.integers(0, 2, (3, 20_000)).astype(bool)], 0),
    "rms_norm": (ic.rms_norm, [X((3, 20_000)).astype(F32), X(20_000).astype(F32)], 1e-5),
    "rms_norm with vectors": (ic.rms_norm, [X((3, 1024)).astype(F16), X(1024).astype(F32)], 2e-3),
    "add_rms_norm": (ic.add_rms_norm, [*pages((3, 20_000), F32), X(20_000).astype(F32)], 1e-5),
    "layer_norm": (ic.layer_norm, [X((2, 20_000)).astype(F32), *pages((20_000,), F32)], 1e-4),
    "softmax": (ic.softmax, [X((3, 20_001)).astype(F32)], 1e-5),
    "softmax with vectors": (ic.softmax, [X((3, 512)).astype(F32)], 1e-5),
    "logsoftmax": (ic.logsoftmax, [X((2, 20_000)).astype(F32)], 1e-5),
    "causal_softmax": (ic.causal_softmax, [X((5, 10_000)).astype(F32)], 1e-5),
    "lp_norm": (ic.lp_norm, [X((2, 20_000)).astype(F32)], 1e-5),
    "sort": (ic.sort, [RANDOM.integers(0, 500, (2, 5000)).astype(I32)], 0),
    "sort descending": (lambda x: ic.sort(x, -1, True), [X((2, 2500)).astype(F32)], 0),
    "topk": (lambda x: ic.topk(x, 50, 1), [X((2, 5000)).astype(F16)], 0),
    "topk unsorted": (lambda x: ic.topk(x, 1500, 1, True, False), [X((2, 5000)).astype(F32)], 0),
    "cumsum": (lambda x: ic.cumsum(x, 1), [X((2, 3000)).astype(F32)], 1e-5),
    "random_sample": (lambda x: ic.random_sample(x, 0.7, 0.9, 1200, 1.5), [X(5000).astype(F32)], 0),
    "masked_select": (
        ic.masked_select,
        [X(20_000).astype(F32), RANDOM.integers(0, 2, 20_000).astype(bool)],
        0,
    ),
    "gemm": (ic.matmul, [X((2, 130, 33)).astype(F32), X((2, 33, 70)).astype(F32)], 1e-4),
    "linear": (ic.linear, [X((3, 90, 40)).astype(F16), X((70, 40)).astype(F16), X(70).astype(F16)], 1e-2),
    "add in vectors and a tail": (ic.add, pages((1003,), F32), 0),
    "mul of halves in vectors": (ic.mul, pages((4, 24), F16), 0),
    "maximum of bytes in vectors": (ic.maximum, list(RANDOM.integers(0, 255, (2, 100)).astype(np.uint8)), 0),
    "equal in vectors": (ic.equal, list(RANDOM.integers(0, 3, (2, 50)).astype(I32)), 0),
    "linear of one row": (ic.linear, [X((1, 1032)).astype(F16), X((45, 1032)).astype(F16) / 32], 4e-3),
    "linear of a few rows": (
        lambda x, w, b: ic.linear(x.view((7, 2, 520)).narrow(1, 0, 1), w, b, alpha=0.5),
        [X((14, 520)).astype(F32), X((70, 520)).astype(F32), X(70).astype(F32)],
        1e-4,
    ),
    "linear of 16 rows in bf16": (
        lambda x, w: ic.linear(x.to(ic.bfloat16), w.to(ic.bfloat16)).to(ic.float32),
        [X((4, 4, 264)).astype(F32), X((37, 264)).astype(F32) / 16],
        2e-2,
    ),
    "gemm of a few rows onto what is there": (
        lambda c, a, b: ic.gemm(c.t(), a, b.t(), alpha=2.0, beta=-1.0),
        [X((600, 3)).astype(F32), X((3, 64)).astype(F32), X((600, 64)).astype(F32)],
        1e-4,
    ),
    "swiglu of the halves of rows": (
        lambda x: ic.swiglu(x.narrow(1, 256, 256), x.narrow(1, 0, 256)),
        [X((9, 512)).astype(F16)],
        2e-3,
    ),
    "silu with a tail": (ic.silu, [X(5003).astype(F16)], 2e-3),
    "add of rows with a gap": (
        lambda a, b: ic.add(a.narrow(1, 8, 40), b),
        [X((70, 56)).astype(F16), X((70, 40)).astype(F16)],
        1e-3,
    ),
    "cast of rows with a gap": (
        lambda x: ic.cast(x.narrow(1, 4, 32), out=ic.empty((70, 32), dtype=ic.float16, device=x.device)),
        [X((70, 40)).astype(F32)],
        1e-3,
    ),
    "layer_norm with vectors": (ic.layer_norm, [X((3, 1024)).astype(F16), *pages((1024,), F16)], 6e-3),
    "causal_softmax with vectors": (ic.causal_softmax, [X((2, 30, 512)).astype(F16)], 2e-3),
    "rope": (ic.rope, [X((2, 3, 5, 32)).astype(F16), np.arange(3), *pages((9, 16), F32)], 4e-3),
    "rope of neighbours": (
        lambda *given: ic.rope(*given, ic.RopeAlgo.GPT_J),
        [X((3, 6, 64)).astype(F16), np.array([7, 0, 2]), *pages((9, 32), F32)],
        4e-3,
    ),
    "kv_caching": (
        ic.kv_caching,
        [*pages((2, 3, 9, 32), F16), *pages((2, 3, 4, 32), F16), np.array([5, 0], I32)],
        0,
    ),
    "cat": (
        lambda a, b: ic.cat([a, b.t()], 1),
        [X((30, 48)).astype(F32), X((72, 30)).astype(F32)],
        0,
    ),
    "index_select": (
        lambda x, index: ic.index_select(x, 1, index),
        [X((3, 9, 64)).astype(F16), RANDOM.integers(0, 9, 40)],
        0,
    ),
    "embedding": (ic.embedding, [RANDOM.integers(0, 9, 50), X((9, 256)).astype(F16)], 0),
    "paged_attention": (
        lambda q, k, v, table, lens: ic.paged_attention(q, k, v, table, lens, None, 0.1),
        [X((2, 8, 128)).astype(F16), *pages((80, 2, 16, 128), F16), TABLE, np.array([640, 515], I32)],
        2e-3,
    ),
    "mha": (
        lambda q, k, v: ic.mha(q, k, v, None, 0.125, True),
        [X((2, 40, 6, 64)).astype(F32), *pages((2, 70, 2, 64), F32)],
        1e-4,
    ),
    "mha with slopes": (
        lambda q, k, v, slopes: ic.mha(q, k, v, slopes, 0.3, False),
        [X((1, 33, 4, 20)).astype(F16), *pages((1, 45, 4, 20), F16), np.array([0.5, 0.1, 0, 0.2], F32)],
        4e-3,
    ),
    "attention with a mask": (
        ic.scaled_dot_product_attention,
        [
            X((2, 3, 50, 24)).astype(F32),
            X((2, 3, 41, 24)).astype(F32),
            X((2, 3, 41, 40)).astype(F32),
            RANDOM.integers(0, 2, (50, 41)).astype(bool),
        ],
        1e-4,
    ),
    "paged_attention_prefill": (
        lambda q, k, v, table, past, cuts: ic.paged_attention_prefill(q, k, v, table, past, cuts, None, 0.1),
        [
            X((60, 4, 96)).astype(F32),
            *pages((80, 2, 16, 96), F32),
            TABLE,
            np.array([100, 7], I32),
            np.array([3, 3 + 34, 3 + 34 + 20], I32),
        ],
        1e-4,
    ),
    "mha_varlen": (
        lambda q, k, v, cuts, key_cuts: ic.mha_varlen(q, k, v, cuts, key_cuts, None, 33, 64, None, 0.2),
        [
            X((40, 4, 32)).astype(F32),
            *pages((90, 1, 32), F32),
            np.array([0, 33, 33, 38], I32),
            np.array([2, 66, 70, 75], I32),
        ],
        1e-4,
    ),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", sorted(LARGE))
def test_large_calls_agree_with_the_cpu(folder: Path, width: int, case: str) -> None:
    function, arrays, tolerance = LARGE[case]
    device = device_of(folder, width, ORDERS[width])
    want = function(*(ic.from_numpy(array.copy()) for array in arrays))  # some calls write to their first
    got = function(*(ic.from_numpy(array).to(device) for array in arrays))
    for mine, theirs in zip(*(r if isinstance(r, tuple) else (r,) for r in (got, want)), strict=True):
        a, b = mine.to("cpu").numpy(), theirs.numpy()
        if tolerance:
            np.testing.assert_allclose(
                a.astype(np.float64), b.astype(np.float64), rtol=tolerance, atol=tolerance
            )
        else:
            assert (a == b).all()


@pytest.mark.parametrize("source", DTYPES)
def test_cast_of_any_pair_of_dtypes(folder: Path, source: str) -> None:
    device = device_of(folder, WIDTHS[0], FORWARD)
    values = ic.from_list([0.0, 1.0, 2.0, 3.0, 1.0] * 7).to(getattr(ic, DTYPES[source][1]))
    for target, (_, name) in DTYPES.items():
        want, got = values.to(getattr(ic, name)), values.to(device).to(getattr(ic, name))
        assert (read(got, target) == read(want, target)).all(), target


@pytest.mark.parametrize("name", DTYPES)
def test_ones_and_zeros_of_any_dtype(folder: Path, name: str) -> None:
    device = device_of(folder, WIDTHS[0], FORWARD)
    like = ic.empty((40,), dtype=getattr(ic, DTYPES[name][1]), device=device)
    assert (read(ops.ones(like), name) == np.ones(40)).all()
    assert (read(ops.zeros(like), name) == np.zeros(40)).all()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_router_of_no_numbers(folder: Path, width: int) -> None:
    """Where no score can be the best, any expert is chosen, with no number for a weight: nothing is read that
    is not there."""
    device = device_of(folder, width, ORDERS[width])
    x = np.full((2, 32), np.nan, F32)
    x[1] = np.linspace(-1, 1, 32)
    values, indices = ic.topkrouter(
        ic.from_numpy(x).to(device), ic.zeros((32,), dtype=ic.float32, device=device), 4
    )
    assert indices.tolist() == [[0] * 4, [31, 30, 29, 28]]
    assert np.isnan(values.to("cpu").numpy()).tolist() == [[True] * 4, [False] * 4]


@pytest.mark.parametrize("first", [0, 3])
def test_pages_are_written_in_vectors(folder: Path, first: int) -> None:
    """Rows of a head that are whole vectors; from an address that is aligned, and from one that is not."""
    device = device_of(folder, WIDTHS[0], FORWARD)
    slots, tokens = ic.from_list([5, -1, 12, 0], dtype=ic.int32), X((4, 2, 32)).astype(F16)
    caches = []
    for where in ("cpu", device):
        k, v = (ic.zeros((3 * 2 * 8 * 32 + 8,), dtype=ic.float16, device=where) for _ in range(2))
        pages_of = [c.narrow(0, first, 3 * 2 * 8 * 32).view((3, 2, 8, 32)) for c in (k, v)]
        new = ic.from_numpy(tokens).to(where)
        ic.paged_caching(*pages_of, new, new, slots.to(where))
        caches.append((k.to("cpu").numpy(), v.to("cpu").numpy()))
    for want, got in zip(*caches, strict=True):
        assert want.any()
        assert (want == got).all()


def test_more_batches_than_a_grid_has(folder: Path) -> None:
    """Products over nothing, so that each batch only doubles what is there: once."""
    device = device_of(folder, WIDTHS[0], FORWARD)
    c = np.arange(66_000, dtype=F32).reshape(33_000, 2, 1, 1)
    a, b = (
        ic.empty(shape, dtype=ic.float32, device=device) for shape in ((33_000, 2, 1, 0), (33_000, 2, 0, 1))
    )
    got = ic.from_numpy(c).to(device)
    ic.gemm(got, a, b, beta=2.0)
    assert (got.to("cpu").numpy() == 2 * c).all()


def test_what_this_backend_does_not_take(folder: Path) -> None:
    device = device_of(folder, WIDTHS[0], FORWARD)
    q = ic.zeros((1, 2, 1, 300), dtype=ic.float32, device=device)
    with pytest.raises(
        ic.OperatorNotSupported, match="heads of size 300, but this backend takes at most 256"
    ):
        ic.mha(q, q, q)
    scores = ic.zeros((1, 6000), dtype=ic.float32, device=device)
    with pytest.raises(ic.OperatorNotSupported, match="6000 experts, but this backend takes at most 5120"):
        ic.topksoftmax(scores, 2)
    x, weight = (ic.empty((n, 0), dtype=ic.float16, device=device) for n in (1, 4_194_241))
    with pytest.raises(ic.OperatorNotSupported, match="4194241 columns, but this backend takes at most"):
        ic.linear(x, weight)
    with pytest.raises(ic.InvalidArgument, match="temperature is -1"):
        ic.random_sample(ic.zeros((5,), dtype=ic.float32, device=device), 0.5, 0.5, 3, -1.0)
