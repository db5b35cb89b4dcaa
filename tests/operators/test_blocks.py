# What happens at the ends of blocks and registers: rows of every length, one odd element among many usual
# ones, products of more than one panel. (The property tests draw small shapes.)
"""Operators on more than one block."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import infinicore as ic

RANDOM = np.random.default_rng(7)


def on(device: ic.device, values: np.ndarray) -> ic.Tensor:
    if values.size == 0:
        return ic.empty(values.shape, dtype=getattr(ic, values.dtype.name), device=device)
    return ic.from_numpy(values).to(device)


def back(tensor: ic.Tensor) -> np.ndarray:
    return np.array(tensor.to("cpu").numpy())


@pytest.mark.parametrize("dtype", ["int8", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("first", [1, 60, 250])
def test_rows_of_every_length(dtype: str, first: int, device: ic.device) -> None:
    for n in range(first, first + 20):
        x = RANDOM.integers(-1, 2, (3, n)).astype(dtype)  # whose sums are exact
        t = on(device, x)
        np.testing.assert_equal(back(ic.sum(t, 1)).astype(float), x.sum(1, dtype="int64").astype(dtype))
        np.testing.assert_equal(back(ic.prod(t, 1)).astype(float), x.prod(1, dtype="int64"))
        x[:, -1] = [1, 2, 3]  # the last element counts, and nothing after it
        t = on(device, x)
        np.testing.assert_equal(back(ic.amax(t, 1)), x.max(1))
        np.testing.assert_equal(back(ic.amin(ic.neg(t), 1)), -x.max(1))
        np.testing.assert_equal(back(ic.argmax(t, 1)), x.argmax(1))
        if dtype.startswith("float"):
            x[1, -1] = math.nan
            np.testing.assert_equal(back(ic.amax(on(device, x), 1)), x.max(1))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32"])
@pytest.mark.parametrize("shape", [(600, 2), (341, 3), (40000, 3), (2, 900, 7)])
def test_first_extremum_of_few_columns(dtype: str, shape: tuple[int, ...], device: ic.device) -> None:
    x = RANDOM.integers(2, 90, shape).astype(dtype)
    some = x.reshape(-1, shape[-1])  # the last element counts, and of equal ones the first
    some[-1, 0], some[[1, -2], 1] = 99, 1
    for _ in range(2):
        t = on(device, x)
        np.testing.assert_equal(back(ic.argmax(t, -2)), x.argmax(-2))
        np.testing.assert_equal(back(ic.argmin(t, -2)), x.argmin(-2))
        largest, index = ic.max(t, -2)
        np.testing.assert_equal(back(largest), x.max(-2))
        np.testing.assert_equal(back(index), x.argmax(-2))
        if dtype.startswith("float"):
            some[[-3, -1], 1] = math.nan  # which is largest and smallest


@pytest.mark.parametrize("n", [1, 7, 8, 19, 32])
def test_first_of_short_rows_of_booleans(n: int, device: ic.device) -> None:
    x = np.vstack([np.eye(n, dtype=bool), ~np.eye(n, dtype=bool), RANDOM.integers(0, 2, (50, n)) > 0])
    np.testing.assert_equal(back(ic.argmax(on(device, x), 1)), x.argmax(1))
    np.testing.assert_equal(back(ic.argmin(on(device, x), 1)), x.argmin(1))
    np.testing.assert_equal(back(ic.max(on(device, x), 1)[0]), x.any(1))


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-310, 1e-40, -2.0, 1e300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_odd_element_among_many(dtype: str, odd: float, device: ic.device) -> None:
    calls: list[tuple[Callable[..., ic.Tensor], Callable[..., np.ndarray]]] = [
        (ic.exp, np.exp),
        (ic.tanh, np.tanh),
        (lambda x: ic.pow(x, x), lambda x: np.power(x, x)),
        (lambda x: ic.pow(x, on(device, np.full(1300, 0.75, dtype))), lambda x: np.power(x, 0.75)),
    ]
    x = RANDOM.uniform(0.5, 3, 1300).astype(dtype)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    for ours, theirs in calls:
        for place in (None, 700, 1299):
            if place is not None:
                with np.errstate(over="ignore"):
                    x[place] = odd
            with np.errstate(all="ignore"):
                expected = theirs(x.astype(np.float64)).astype(dtype)
            np.testing.assert_allclose(back(ours(on(device, x))), expected, rtol=tolerance)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "complex128"])
@pytest.mark.parametrize("widths", [(1, 2), (3, 5, 8), (4, 0, 16), (200, 1), (0, 0)])
def test_columns_side_by_side(dtype: str, widths: tuple[int, ...], device: ic.device) -> None:
    parts = [RANDOM.integers(0, 100, (70, width)).astype(dtype) for width in widths]
    tensors = [on(device, part) for part in parts]
    np.testing.assert_equal(back(ic.cat(tensors, dim=1)), np.concatenate(parts, 1))
    turned = [on(device, np.ascontiguousarray(part.T)).permute((1, 0)) for part in parts]
    np.testing.assert_equal(back(ic.cat(turned, dim=1)), np.concatenate(parts, 1))
    np.testing.assert_equal(back(ic.cat(tensors, dim=-1)), np.concatenate(parts, -1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 3, 25, 70, 129])
def test_products_of_some_rows(dtype: str, rows: int, device: ic.device) -> None:
    a = RANDOM.uniform(-1, 1, (rows, 300)).astype(dtype)  # more than one panel's depth
    b = RANDOM.uniform(-1, 1, (300, 700)).astype(dtype)
    bias = RANDOM.uniform(-1, 1, 700).astype(dtype)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    weight = on(device, np.ascontiguousarray(b.T))
    np.testing.assert_allclose(back(ic.matmul(on(device, a), on(device, b))), expected, atol=tolerance)
    result = ic.ops.linear(on(device, a), weight, on(device, bias))
    np.testing.assert_allclose(back(result), expected + bias, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_losses_of_few_classes(dtype: str, device: ic.device) -> None:
    x = RANDOM.uniform(-5, 5, (150, 10)).astype(dtype)
    target = RANDOM.integers(0, 10, 150)
    target[[3, 77, 149]] = -100  # ignored
    wide = x.astype(np.float64)
    losses = np.log(np.exp(wide).sum(1)) - wide[np.arange(150), np.maximum(target, 0)]
    losses[target == -100] = 0
    result = ic.ops.cross_entropy(on(device, x), on(device, target), reduction="none")
    np.testing.assert_allclose(back(result).astype(np.float64), losses, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_running_sums_of_short_lines(dtype: str, device: ic.device) -> None:
    x = RANDOM.integers(-3, 4, (600, 8)).astype(dtype)
    np.testing.assert_equal(back(ic.cumsum(on(device, x), 1)), x.cumsum(1, dtype="float32"))
