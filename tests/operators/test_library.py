# Products and convolutions that are large enough for oneDNN, with it and without it, against the reference.
# What the properties of test_properties.py draw is smaller, so that the built-in kernels do it.
"""Property tests of what the CPU backend gives to a library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infinicore as ic
from infinicore.schema import OPERATORS
from infinicore.testing.tolerance import mismatches, tolerance

DTYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
LIBRARY = "libinfinicore_onednn.so"
NEEDED = os.environ.get("INFINICORE_ONEDNN") != "0" and (Path(ic.__file__).parent / "lib" / LIBRARY).exists()


def loaded() -> bool:
    """Tell whether this process has opened oneDNN."""
    return LIBRARY in Path("/proc/self/maps").read_text()


def tensor(values: np.ndarray, layout: str, dtype: str) -> ic.Tensor:
    """Put rounded values in memory: in C order, with channels last, or as a part of something larger."""
    if layout == "channels last":
        back = [0, values.ndim - 1, *range(1, values.ndim - 1)]
        return tensor(np.moveaxis(values, 1, -1), "plain", dtype).permute(tuple(back))
    if layout == "padded":
        whole = tensor(np.pad(values, [(0, 0)] * (values.ndim - 1) + [(2, 3)]), "plain", dtype)
        return whole.narrow(values.ndim - 1, 2, values.shape[-1])
    return ic.from_numpy(np.ascontiguousarray(values, np.float32)).to(getattr(ic, dtype))


def check_close(operator: str, result: ic.Tensor, expected: np.ndarray, dtype: str) -> None:
    bound = tolerance(operator, dtype)
    wrong = mismatches(result.to(ic.float64).numpy(), expected, bound, DTYPES[dtype])
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size} differ by more than {bound}"


@st.composite
def convolutions(draw):
    """Draw sizes of a convolution that is worth more than two million multiply-adds."""
    dims = draw(st.integers(1, 3))
    group_inputs, group_outputs = draw(st.integers(1, 40)), draw(st.integers(4, 40))
    groups = draw(st.sampled_from([1, 1, 2, 3, 16]))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(dims))
    pads = tuple(draw(st.integers(0, 3)) for _ in range(dims))
    strides, dilations = (tuple(draw(st.integers(1, 3)) for _ in range(dims)) for _ in range(2))
    batch = draw(st.sampled_from([1, 1, 2, 3, 9]))
    work = batch * groups * group_inputs * group_outputs * int(np.prod(kernel))
    edge = max(1, round((3e6 / work) ** (1 / dims)))
    spatial = tuple(
        max(edge * s + draw(st.integers(0, 5)), d * (k - 1) + 1)
        for s, d, k in zip(strides, dilations, kernel, strict=True)
    )
    return {
        "x": (batch, groups * group_inputs, *spatial),
        "w": (groups * group_outputs, group_inputs, *kernel),
        "pads": pads,
        "strides": strides,
        "dilations": dilations,
    }


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=15)
@given(
    sizes=convolutions(),
    layout=st.sampled_from(["plain", "channels last", "padded"]),
    biased=st.booleans(),
    seed=st.integers(0, 1 << 30),
)
def test_convolution(dtype, sizes, layout, biased, seed):
    rng = np.random.default_rng(seed)

    def rounded(shape, name, scale=1.0):
        given = tensor(scale * rng.standard_normal(shape), name, dtype)
        return given, given.to(ic.float64).numpy()

    depth = float(np.prod(sizes["w"][1:]))  # sums stay of order one, as the tolerance supposes
    x, x_values = rounded(sizes["x"], layout)
    w, w_values = rounded(sizes["w"], layout, depth**-0.5)
    b, b_values = rounded((sizes["w"][0],), "plain") if biased else (None, None)
    options = {name: sizes[name] for name in ("pads", "strides", "dilations")}
    expected = OPERATORS["conv"].body(None, x_values, w_values, b_values, **options)
    out = tensor(np.full(expected.shape, np.nan), layout, dtype)
    check_close("conv", ic.ops.conv(x, w, b, **options, out=out), expected, dtype)


def test_the_convolution_is_given_to_the_library():
    """Where oneDNN is installed, the property above is about it; rows, images and channels are cut."""
    rng = np.random.default_rng(0)
    for shape, filters in [((1, 32, 33, 30), 48), ((11, 16, 20, 20), 16), ((1, 128, 5, 5), 256)]:
        x = tensor(rng.standard_normal(shape), "plain", "float32")
        w = tensor(rng.standard_normal((filters, shape[1], 3, 3)) / 30, "plain", "float32")
        values = [a.to(ic.float64).numpy() for a in (x, w)]
        expected = OPERATORS["conv"].body(None, *values, None, pads=(1, 1), strides=(1, 1), dilations=(1, 1))
        check_close("conv", ic.ops.conv(x, w, pads=1), expected, "float32")
    assert loaded() == NEEDED


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=8)
@given(
    sizes=st.tuples(st.integers(32, 200), st.integers(32, 200), st.integers(32, 200)),
    transposed=st.booleans(),
    seed=st.integers(0, 1 << 30),
)
def test_product(dtype, sizes, transposed, seed):
    rng = np.random.default_rng(seed)
    m, n, k = sizes
    a = tensor(rng.standard_normal((m, k)) / np.sqrt(k), "plain", dtype)
    b = tensor(rng.standard_normal((n, k) if transposed else (k, n)), "plain", dtype)
    b = b.permute((1, 0)) if transposed else b
    expected = a.to(ic.float64).numpy() @ b.to(ic.float64).numpy()
    check_close("gemm", ic.matmul(a, b), expected, dtype)


@pytest.mark.skipif(os.environ.get("INFINICORE_ONEDNN") == "0", reason="this run is the one without oneDNN")
@pytest.mark.parametrize("variables", [{"INFINICORE_ONEDNN": "0"}, {"INFINICORE_NUM_THREADS": "5"}])
def test_otherwise(variables):
    """Run this file again: without oneDNN, and cut for more threads, both decided once per process."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__]
    selected = ["-k", "not otherwise"]
    environment = {**os.environ, **variables, "HYPOTHESIS_PROFILE": "smoke"}
    run = subprocess.run([*command, *selected], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-1000:]
