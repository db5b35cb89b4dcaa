# Products of few rows on the CUDA double: computed by the kernel that reads weights at memory speed, and
# by cuBLASLt where layouts, addresses or the number of rows do not suit that.
from __future__ import annotations

import ctypes
from collections.abc import Iterator

import numpy as np
import pytest

import infinicore as ic

RANDOM = np.random.default_rng(3)


def integers(*shape: int) -> np.ndarray:
    """Small ones, whose products and sums any float dtype holds."""
    return RANDOM.integers(-2, 3, shape).astype(np.float32)


def on_device(array: np.ndarray, dtype: ic.dtype = ic.float32) -> ic.Tensor:
    return ic.from_numpy(array, dtype=dtype, device="cuda")


@pytest.fixture
def without_cublaslt(double: ctypes.CDLL) -> Iterator[None]:
    """Let the next product of cuBLASLt fail; there is none before the end."""
    double.cuda_double_configure(b"fail=cublasLtMatmul:1:13")
    yield
    with pytest.raises(ic.Error, match="cublasLtMatmul"):
        ic.linear(on_device(integers(9, 16)), on_device(integers(9, 16)))


@pytest.mark.parametrize("dtype", [ic.float32, ic.float16, ic.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_linear(without_cublaslt: None, dtype: ic.dtype, rows: int) -> None:
    x, w, bias = integers(rows, 16), integers(37, 16), integers(37)
    out = ic.linear(*(on_device(a, dtype) for a in (x, w, bias)), alpha=2.0)
    assert out.to(ic.float32).tolist() == (2 * x @ w.T + bias).tolist()


def test_gemm_onto_what_is_there(without_cublaslt: None) -> None:
    c, a, b = integers(3, 50), integers(3, 8), integers(50, 8)
    out = ic.gemm(on_device(c), on_device(a), on_device(b).t(), alpha=0.5, beta=2.0)
    assert out.tolist() == (a @ b.T / 2 + 2 * c).tolist()


def test_cublaslt_computes_the_others(double: ctypes.CDLL) -> None:
    w = integers(24, 16)
    many, odd, shifted = integers(9, 16), integers(3, 15), integers(3, 17)
    cases = [
        (on_device(many), on_device(w), many @ w.T),  # too many rows
        (on_device(odd), on_device(w).narrow(1, 0, 15), odd @ w[:, :15].T),  # no whole vectors
        (on_device(shifted).narrow(1, 1, 16), on_device(w), shifted[:, 1:] @ w.T),  # between vectors
    ]
    for x, weight, want in cases:
        assert ic.linear(x, weight).tolist() == want.tolist()
        double.cuda_double_configure(b"fail=cublasLtMatmul:1:13")
        with pytest.raises(ic.Error, match="cublasLtMatmul"):
            ic.linear(x, weight)


def test_factors_of_zeros_read_nothing() -> None:
    nan = on_device(np.full((2, 8), np.nan, np.float32))
    out = ic.linear(nan, nan, on_device(integers(2) * 0 + 3), alpha=0.0)
    assert out.tolist() == [[3.0, 3.0]] * 2
