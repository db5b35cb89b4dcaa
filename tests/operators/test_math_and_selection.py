# What single elementwise operators promise beside the property tests: bounds of clip as numbers, ties of
# round, truth of numbers, accuracy near and far.
"""Elementwise operators, case by case."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pytest

import infinicore as ic

FLOATS = ["float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("dtype", FLOATS)
def test_clip_by_numbers(dtype: str, device: ic.device) -> None:
    values = [-math.inf, -2.0, -0.5, 0.1, 0.5, 2.0, math.inf, math.nan]
    x = ic.from_list(values).to(getattr(ic, dtype)).to(device)
    rounded = x.to(ic.float64).to("cpu").numpy()

    def clipped(*bounds: float | None) -> np.ndarray:
        result = ic.clip(x, *bounds)
        assert result.dtype is x.dtype and result.device == device
        return np.array(result.to(ic.float64).to("cpu").numpy())

    def in_dtype(bound: float) -> float:
        return ic.full((), bound, dtype=getattr(ic, dtype), device="cpu").to(ic.float64).item()

    third = in_dtype(1 / 3)  # no float: rounded as the dtype rounds
    np.testing.assert_equal(clipped(-third, third), np.minimum(np.maximum(rounded, -third), third))
    np.testing.assert_equal(clipped(-1 / 3, 1 / 3), clipped(-third, third))
    np.testing.assert_equal(clipped(0), np.maximum(rounded, 0))
    np.testing.assert_equal(clipped(None, 1), np.minimum(rounded, 1))
    np.testing.assert_equal(clipped(), rounded)
    np.testing.assert_equal(clipped(1, -1), np.where(np.isnan(rounded), np.nan, 1.0))
    np.testing.assert_equal(clipped(math.nan, 1), np.full(len(values), np.nan))


def test_clip_of_integers_is_exact(device: ic.device) -> None:
    large = 2**53
    x = ic.from_list([-large - 3, 0, large + 3], dtype=ic.int64).to(device)
    assert ic.clip(x, -large - 1, large + 1).to("cpu").tolist() == [-large - 1, 0, large + 1]
    assert ic.clip(x, max_val=2**63 - 1).to("cpu").tolist() == x.to("cpu").tolist()
    with pytest.raises(ic.DTypeError, match=r"0\.5"):
        ic.clip(x, 0.5, 2)
    with pytest.raises(ic.InvalidArgument, match=str(2**63)):
        ic.clip(x, 0, 2**63)


def test_clip_into_a_tensor(device: ic.device) -> None:
    x = ic.from_list([-2.0, 0.0, 2.0]).to(device)
    assert ic.clip(x, -1, 1, out=x) is x
    assert x.to("cpu").tolist() == [-1.0, 0.0, 1.0]
    low = ic.from_list([[0.5], [-0.5]]).to(device)
    assert ic.clip(x, min_val=low).to("cpu").tolist() == [[0.5, 0.5, 1.0], [-0.5, 0.0, 1.0]]


def test_clip_of_one_number_and_one_tensor() -> None:
    x = ic.ones((3,), dtype=ic.float32, device="cpu")
    with pytest.raises(ic.ArgumentTypeError, match="clip: min_val is int and max_val is Tensor"):
        ic.clip(x, 0, x)


@pytest.mark.parametrize("dtype", FLOATS)
def test_halves_are_rounded_to_even(dtype: str, device: ic.device) -> None:
    x = ic.from_list([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5]).to(getattr(ic, dtype)).to(device)
    assert ic.round(x).to("cpu").tolist() == [-2.0, -2.0, -0.0, 0.0, 2.0, 2.0, 4.0]


def test_what_is_true(device: ic.device) -> None:
    nan, numbers = math.nan, ic.from_list([0.0, -0.0, math.nan, 1e-45, -1.0, math.inf]).to(device)
    assert ic.logical_not(numbers).to("cpu").tolist() == [True, True, False, False, False, False]
    pairs = ic.from_list([0j, complex(0, 1), complex(nan, 0), complex(-0.0, -0.0)]).to(device)
    ones = ic.ones((4,), dtype=ic.uint8, device=device)
    assert ic.logical_and(pairs, ones).to("cpu").tolist() == [False, True, True, False]
    assert ic.logical_xor(pairs, ones).to("cpu").tolist() == [True, False, False, True]


def gelu(x: float) -> float:
    """Return x erfc(-x / sqrt(2)) / 2, with what rounding the argument loses put back."""
    if math.isinf(x) or math.isnan(x):
        return x if x > 0 else math.nan
    argument = -x / math.sqrt(2)
    lost = float(-Decimal(x) / Decimal(2).sqrt() - Decimal(argument))
    slope = -2 / math.sqrt(math.pi) * math.exp(-argument * argument)
    return x * ((math.erfc(argument) + slope * lost) / 2)


def exponential(x: float) -> float:
    return math.exp(x) if x < 709 else x * math.inf


def logarithm(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf if x == 0 else math.nan


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 12.0), ("float64", 37.0)])
@pytest.mark.parametrize(("name", "function"), [("gelu", gelu), ("exp", exponential), ("log", logarithm)])
def test_within_a_few_units_everywhere(
    name: str, function: Callable[[float], float], dtype: str, bound: float
) -> None:
    limits = np.finfo(dtype)
    usual = np.concatenate([np.geomspace(limits.tiny, 1.0, 500), np.linspace(0.001, bound, 4001)])
    if name != "log":
        usual = np.concatenate([-usual, usual])
    unusual = [0.0, math.inf, -math.inf, math.nan, 1e4, -1e4, 1e38, -1e38, 3 * bound, -3 * bound, 1e-44]
    # Alone, where there is a shorter way for them, and beside others, which take the longer one.
    mixed = np.concatenate([np.append(part, unusual) for part in np.array_split(usual, 30)])
    for values in (usual.astype(dtype), mixed.astype(dtype)):
        got = getattr(ic, name)(ic.from_numpy(values)).numpy()
        with np.errstate(over="ignore"):
            wanted = np.array([function(x) for x in values.tolist()]).astype(dtype)
        np.testing.assert_allclose(
            got, wanted, rtol=8 * float(limits.eps), atol=4 * float(limits.smallest_subnormal)
        )


def test_results_larger_than_a_cache() -> None:
    rows, columns = 1301, 1003  # 10 MB: more than a MiB for a thread at a time, and no whole lines
    x = np.random.default_rng(0).random((rows, columns + 5))
    inside = ic.from_numpy(x)[:, 2:-3]
    for a, values in ((ic.from_numpy(x[:, 2:-3].copy()), x[:, 2:-3]), (inside, x[:, 2:-3])):
        np.testing.assert_array_equal(ic.neg(a).numpy(), -values)
        np.testing.assert_array_equal(ic.sub(a, inside).numpy(), 0 * values)
    for fill, value in ((ic.ops.zeros, 0), (ic.ops.ones, 1)):
        out = ic.from_numpy(np.full(rows * columns + 2, 2.0))
        fill(out[1:-1], out=out[1:-1])
        got = out.numpy()
        assert (got[1:-1] == value).all() and got[0] == got[-1] == 2.0
    assert (ic.full((rows, columns), 1.5, dtype=ic.float64, device="cpu").numpy() == 1.5).all()
    some = ic.from_numpy(np.full((3 << 20) + 9, 7, np.uint8))
    some[1:-1].fill_(5)
    got = some.numpy()
    assert (got[1:-1] == 5).all() and got[0] == got[-1] == 7
