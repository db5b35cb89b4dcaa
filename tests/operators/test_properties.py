# Every operator against its float64 reference and, where PyTorch has it too, the reference against PyTorch.
# Calls are drawn from the operators' own signatures: a new operator needs no line of test code here.
"""Property tests of all operators."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import infinicore as ic
from infinicore.schema import DTYPES, OPERATORS
from infinicore.testing.conformance import WITNESSES, agree, check, reference, witness
from infinicore.testing.strategies import NUMPY, DrawnCall, calls
from infinicore.testing.tolerance import mismatches, tolerance

NAMES = sorted(OPERATORS)
INSTRUCTION_SETS = ("generic", "x86_64_v3", "x86_64_v4")


def check_here(call: DrawnCall, device: ic.device) -> None:
    """Check a call. A vendor's device may lack its dtypes, which its report says; core's own lack nothing."""
    try:
        check(call, device)
    except ic.OperatorNotSupported:
        if device.type in ("cpu", "sim"):
            raise
        event("not supported")


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_result_is_the_reference(name: str, device: ic.device, data: st.DataObject) -> None:
    check_here(data.draw(calls(OPERATORS[name])), device)


@pytest.mark.torch
@pytest.mark.parametrize("name", sorted(WITNESSES))
@given(data=st.data())
def test_reference_is_torch(name: str, torch, data: st.DataObject) -> None:
    call = data.draw(calls(OPERATORS[name]))
    theirs = witness(call, torch)
    if theirs is None:
        event("PyTorch has no such dtype")
        return
    for parameter, want, got in zip(call.schema.outputs, theirs, reference(call), strict=True):
        assert got.shape == want.shape
        assert agree(got, want), f"{parameter.name} of {call}: reference {got}, PyTorch {want}"


# Normalisations of no elements, maxima of none and the like have no value.
SIZED = [name for name in NAMES if OPERATORS[name].draw is None]


@pytest.mark.parametrize("size", [0, 1, 127])
@pytest.mark.parametrize("name", SIZED)
@settings(max_examples=5)
@given(data=st.data())
def test_edge_sizes(name: str, size: int, device: ic.device, data: st.DataObject) -> None:
    dimensions = st.sampled_from([size, 1] if size > 1 else [size])
    check_here(data.draw(calls(OPERATORS[name], dimensions=dimensions)), device)


def test_more_elements_than_32_bits_count() -> None:
    """2**31 + 5 elements that share one: the count, not the memory, is what is large."""
    one = ic.full((1,), 3, dtype=ic.int64, device="cpu")
    assert ic.sum(one.expand((2**31 + 5,))).item() == 3 * (2**31 + 5)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((300, 9000), 0),
        ((70_000, 9), 0),
        ((70_000, 3), 0),
        ((5000, 5), 1),
        ((3, 70_001), 1),
        ((3, 70_001), None),
        ((20, 300, 70), 1),
        ((20, 300, 70), (0, 2)),
    ],
)
def test_reductions_of_many_elements(
    shape: tuple[int, ...], dim: int | tuple[int, ...] | None, dtype: str, cpu: ic.device
) -> None:
    """More than a block, panel or segment of a kernel holds. Sums and products are small integers: exact."""
    random = np.random.default_rng(0)
    exact = random.choice([-1, 1], shape)
    exact.reshape(-1)[random.integers(0, exact.size, 6)] = [3, -3] * 3
    values = exact.astype(dtype)  # -1 is 255 in uint8: its sums wrap around as the integers do
    x = ic.from_numpy(values)

    def same(name: str, want: np.ndarray, *tensors: ic.Tensor) -> None:
        got = getattr(ic, name)(*tensors, dim).numpy()
        assert got.dtype == want.dtype and (got == want).all(), name

    same("sum", np.sum(exact, dim).astype(dtype), x)
    same("prod", np.prod(exact, dim).astype(dtype), x)
    same("amax", np.asarray(np.max(values, dim)), x)
    same("amin", np.asarray(np.min(values, dim)), x)
    same("any", np.asarray(np.any(exact == 3, dim)), ic.from_numpy(exact == 3))
    same("all", np.asarray(np.all(exact != 3, dim)), ic.from_numpy(exact != 3))
    if not isinstance(dim, tuple):
        same("argmax", np.asarray(np.argmax(values, dim)), x)
        same("argmin", np.asarray(np.argmin(values, dim)), x)
    if isinstance(dim, int):
        same("cumsum", np.cumsum(exact, dim).astype(dtype), x)
        assert (ic.max(x, dim)[0].numpy() == np.max(values, dim)).all()
    if dtype != "uint8":
        tolerance = {"rtol": 1e-3, "atol": 1e-3} if dtype == "float16" else {"rtol": 1e-6, "atol": 1e-6}
        np.testing.assert_allclose(ic.mean(x, dim).numpy(), np.mean(exact, dim), **tolerance)
        np.testing.assert_allclose(ic.var(x, dim).numpy(), np.var(exact, dim, ddof=1), **tolerance)


def test_softmax_over_an_axis_with_many_neighbours(device: ic.device) -> None:
    """More columns side by side than a kernel takes at once."""
    x = np.random.default_rng(0).standard_normal((7, 1500)).astype(np.float32)
    exact = np.exp(x.astype(np.float64)) / np.exp(x.astype(np.float64)).sum(0)
    got = ic.softmax(ic.from_numpy(x).to(device), axis=0).to("cpu").numpy()
    np.testing.assert_allclose(got, exact, rtol=1e-5)


ELEMENTWISE = [
    "abs",
    "add",
    "ceil",
    "clip",
    "clip_scalar",
    "div",
    "elu",
    "equal",
    "exp",
    "floor",
    "gelu",
    "gelu_tanh",
    "greater",
    "greater_equal",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "less",
    "less_equal",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "mul",
    "neg",
    "not_equal",
    "pow",
    "quick_gelu",
    "reciprocal",
    "relu",
    "round",
    "rsqrt",
    "sigmoid",
    "silu",
    "silu_and_mul",
    "softplus",
    "sqrt",
    "sub",
    "swiglu",
    "tanh",
    "where",
]


SELECTING = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "cat",
    "count_nonzero",
    "embedding",
    "gather",
    "index_select",
    "kv_caching",
    "masked_select",
    "max",
    "min",
    "paged_caching",
    "rearrange",
    "sort",
    "topk",
]


ROWS = ["causal_softmax", "logsoftmax", "softmax"]


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("name", [*ELEMENTWISE, *SELECTING, *ROWS])
@settings(max_examples=8)
@given(data=st.data())
def test_nan_and_infinity(name: str, dtype: str, device: ic.device, data: st.DataObject) -> None:
    variables = dict.fromkeys("FTNR", dtype)
    check(data.draw(calls(OPERATORS[name], dtypes=variables, special=True)), device)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(40,), (7, 40), (40, 3), (5, 9, 17), (300, 40)])
def test_the_first_nan_is_the_extremum(shape: tuple[int, ...], dtype: str, device: ic.device) -> None:
    values = np.sin(np.arange(math.prod(shape), dtype=np.float64)).reshape(shape)
    values.reshape(-1)[2::11] = np.nan  # some columns have several, some none
    x = ic.from_numpy(values).to(getattr(ic, dtype)).to(device)
    rounded = x.to("cpu").to(ic.float64).numpy()
    for tensor, array in ((x, rounded), (x.T, rounded.T)) if len(shape) == 2 else ((x, rounded),):
        for dim in range(len(shape)):
            np.testing.assert_array_equal(ic.argmax(tensor, dim).to("cpu").numpy(), array.argmax(dim))
            np.testing.assert_array_equal(ic.argmin(tensor, dim).to("cpu").numpy(), array.argmin(dim))
            largest, where = ic.ops.max(tensor, dim)
            np.testing.assert_array_equal(largest.to("cpu").to(ic.float64).numpy(), array.max(dim))
            np.testing.assert_array_equal(where.to("cpu").numpy(), array.argmax(dim))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(
    "name",
    [
        "amax",
        "amin",
        "causal_softmax",
        "cumsum",
        "logsoftmax",
        "lp_norm",
        "mean",
        "prod",
        "rms_norm",
        "softmax",
        "sum",
        "var",
    ],
)
def test_nan_stays_in_its_row(name: str, dtype: str, device: ic.device) -> None:
    values = np.linspace(-1, 1, 5 * 37).reshape(5, 37)
    values[2, 11] = np.nan
    # A causal row sees the columns up to its own diagonal: here all of column 11.
    x = ic.from_numpy(values).to(getattr(ic, dtype)).to(device)
    weight = ic.ones((37,), dtype=getattr(ic, dtype), device=device)
    alone = {"causal_softmax": (x,), "logsoftmax": (x,), "lp_norm": (x,), "rms_norm": (x, weight)}
    arguments = alone.get(name, (x, 1))
    result = getattr(ic, name)(*arguments).to(ic.float64).numpy().reshape(5, -1)
    assert np.isnan(result[2]).any()
    assert np.isfinite(np.delete(result, 2, axis=0)).all()


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
def test_swiglu_of_infinities(dtype: str, device: ic.device) -> None:
    """A finite gate other than zero keeps an infinite value infinite, also where the gate underflows."""
    inf, nan, info = math.inf, math.nan, ml_dtypes.finfo(NUMPY[dtype])
    tiny, large = float(info.smallest_subnormal), float(info.max)
    cases = [  # value, gate, result
        (inf, 1, inf), (inf, -1, -inf), (-inf, -1, inf), (inf, 0, nan), (inf, -0.0, nan),
        (inf, tiny, inf), (-inf, tiny, -inf), (inf, -tiny, -inf), (-inf, -tiny, inf),
        (inf, -96, -inf), (-inf, -96, inf), (inf, -800, -inf), (inf, -large, -inf), (inf, large, inf),
        (inf, inf, inf), (-inf, inf, -inf), (1, inf, inf), (-1, inf, -inf), (0, inf, nan),
        (inf, -inf, nan), (1, -inf, nan), (0, -inf, nan), (nan, 1, nan), (inf, nan, nan), (0, nan, nan),
        (large, large, inf), (large, -large, 0), (0, large, 0), (tiny, -large, 0),
        (large, -96, large * (-96 / (1 + math.exp(96)))),
    ]  # fmt: skip
    value, gate, want = (np.array(column, np.float64) for column in zip(*cases, strict=True))
    x, y = (ic.from_numpy(a).to(getattr(ic, DTYPES[dtype][1])).to(device) for a in (value, gate))
    got = ic.swiglu(x, y).to("cpu").to(ic.float64).numpy().astype(NUMPY[dtype])
    wrong = mismatches(got, want, tolerance("swiglu", DTYPES[dtype][1]), dtype)
    assert not wrong.any(), [
        (*case, result) for case, result, bad in zip(cases, got, wrong, strict=True) if bad
    ]


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_every_instruction_set(isa: str) -> None:
    """The kernels for lesser processors are right too: this file again, in a process of its own."""
    probe = "import infinicore as ic; ic.empty((1,), dtype=ic.float32, device='cpu'); print('usable')"
    environment = {**os.environ, "INFINICORE_CPU_ISA": isa}
    usable = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True)
    if usable.returncode:
        assert isa in usable.stderr, usable.stderr
        pytest.skip(usable.stderr.strip().splitlines()[-1])
    selected = "(test_result_is_the_reference or test_swiglu_of_infinities) and cpu"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", selected, __file__]
    profile = {"HYPOTHESIS_PROFILE": "thorough" if os.environ.get("INFINICORE_TEST_THOROUGH") else "smoke"}
    run = subprocess.run(command, env={**environment, **profile}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-1000:]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("size", [1, 5, 64, 129])
def test_what_is_multiplied_by_zero_is_not_read(dtype: str, size: int, device: ic.device) -> None:
    """With beta=0 the old content of c does not matter, NaN or not; with alpha=0 neither do a and b."""
    a = ic.ones((size, size), dtype=getattr(ic, dtype), device=device)
    c = ic.full((size, size), float("nan"), dtype=getattr(ic, dtype), device=device)
    ic.gemm(c, a, a, alpha=1.0, beta=0.0)
    assert c.to("cpu").tolist() == [[float(size)] * size] * size
    ic.gemm(a, c * float("nan"), c, alpha=0.0, beta=3.0)
    assert a.to("cpu").tolist() == [[3.0] * size] * size
