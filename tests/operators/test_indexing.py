# What one drawn call cannot show of the operators that index and sort: functions made of views, updates in
# place, errors that leave everything as it was, large inputs, results whose size depends on the data.
"""Indexing and sorting."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import infinicore as ic
from infinicore.testing.conformance import read

CPU = {"device": "cpu"}


def on(device: ic.device, values: Any, dtype: ic.dtype | None = None) -> ic.Tensor:
    tensor = ic.from_numpy(np.array(values, order="C"))
    return (tensor if dtype is None else tensor.to(dtype)).to(device)


def host(tensor: ic.Tensor) -> np.ndarray:
    return read(tensor, tensor.dtype.short)


# ---- stack and split ---------------------------------------------------------------------------------------


@given(data=st.data())
def test_stack_is_numpys(device: ic.device, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), max_size=3)))
    count = data.draw(st.integers(1, 4))
    dim = data.draw(st.integers(-len(shape) - 1, len(shape)))
    parts = np.arange(count * np.prod(shape, dtype=int)).reshape(count, *shape)
    result = ic.stack([on(device, part) for part in parts], dim)
    want = np.stack(list(parts), dim)
    assert tuple(result.shape) == want.shape
    assert (host(result) == want).all()


def test_stack_into_a_tensor() -> None:
    x, out = ic.from_list([1, 2], **CPU), ic.empty((2, 2), dtype=ic.int64, **CPU)
    assert ic.stack((x, x), dim=-1, out=out) is out
    assert out.tolist() == [[1, 1], [2, 2]]


@pytest.mark.parametrize(
    ("shapes", "dim", "error", "message"),
    [
        (
            [(2,), (3,)],
            0,
            ic.ShapeError,
            r"^stack: tensors\[1\] has shape \(3,\), but tensors\[0\] has .*\(2,\)",
        ),
        ([(2,)], 2, ic.OutOfRange, r"^stack: dim=2 .*ndim=2"),
        ([], 0, ic.InvalidArgument, "^stack: tensors has 0 tensors"),
    ],
)
def test_wrong_stacks(shapes: list[Any], dim: int, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        ic.stack([ic.ones(shape, dtype=ic.float32, **CPU) for shape in shapes], dim)


def test_stack_of_two_dtypes() -> None:
    with pytest.raises(ic.DTypeError, match=r"^stack: tensors\[1\] has .*float32.*int64"):
        ic.stack([ic.ones((2,), dtype=ic.int64, **CPU), ic.ones((2,), dtype=ic.float32, **CPU)])


def test_split_gives_views() -> None:
    x = ic.from_numpy(np.arange(14).reshape(2, 7))
    pieces = ic.split(x, 3, dim=-1)
    assert [tuple(piece.shape) for piece in pieces] == [(2, 3), (2, 3), (2, 1)]
    assert pieces[1].data_ptr() == x.data_ptr() + 3 * 8
    assert pieces[2].tolist() == [[6], [13]]
    assert [tuple(piece.shape) for piece in ic.split(x, [0, 5, 2], 1)] == [(2, 0), (2, 5), (2, 2)]
    assert [tuple(piece.shape) for piece in ic.split(ic.empty((0, 2), dtype=ic.int64, **CPU), 4)] == [(0, 2)]


@pytest.mark.parametrize(
    ("sizes", "dim", "error", "message"),
    [
        (0, 0, ic.InvalidArgument, r"^split: split_size_or_sections=0.*size 4"),
        (-1, 0, ic.InvalidArgument, r"^split: split_size_or_sections=-1"),
        ([1, 2], 0, ic.InvalidArgument, r"^split: split_size_or_sections=\[1, 2\].*4"),
        ([5, -1], 0, ic.InvalidArgument, r"^split: split_size_or_sections=\[5, -1\].*4"),
        (2, 1, ic.OutOfRange, r"^split: dim=1 .*ndim=1"),
    ],
)
def test_wrong_splits(sizes: Any, dim: int, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        ic.split(ic.ones((4,), dtype=ic.float32, **CPU), sizes, dim)


# ---- updates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [ic.int32, ic.float16, ic.float32])
@pytest.mark.parametrize("rows", [1, 3, 700])
@pytest.mark.parametrize("dim", [0, 1])
def test_updates_in_place(dtype: ic.dtype, rows: int, dim: int, device: ic.device) -> None:
    """Also of many lines and of one, along either dimension, with all the targets hit several times."""
    random = np.random.default_rng(rows)
    values = random.integers(0, 9, (rows, 40) if dim else (40, rows))
    index = random.integers(0, 40, 2500)
    source = random.integers(0, 3, (rows, 2500) if dim else (2500, rows))
    want = values.copy()
    np.add.at(np.moveaxis(want, dim, 0), index, 2 * np.moveaxis(source, dim, 0))
    x = on(device, values, dtype)
    assert ic.index_add(x, dim, on(device, index), on(device, source, dtype), alpha=2, out=x) is x
    assert (host(x) == want).all()

    spread = np.ascontiguousarray(np.broadcast_to(index if dim else index[:, None], source.shape))
    x = on(device, values, dtype)
    assert ic.scatter(x, on(device, spread), on(device, 2 * source, dtype), dim, "add", out=x) is x
    assert (host(x) == want).all()


@pytest.mark.parametrize("dtype", [ic.float16, ic.bfloat16])
def test_narrow_floats_are_rounded_once(dtype: ic.dtype, device: ic.device) -> None:
    """A thousand ones that vanish one by one beside 4096."""
    x, ones = ic.full((1,), 4096, dtype=dtype, **CPU).to(device), ic.ones((1024,), dtype=dtype, **CPU)
    index, ones = ic.zeros((1024,), dtype=ic.int64, **CPU).to(device), ones.to(device)
    assert host(ic.index_add(x, 0, index, ones)).tolist() == [5120]
    assert host(ic.scatter(x, index, ones, 0, "add")).tolist() == [5120]


def test_the_last_update_wins(device: ic.device) -> None:
    index, src = np.arange(9000) % 7, np.arange(9000)
    result = ic.scatter(on(device, np.zeros(8, int)), on(device, index), on(device, src), 0)
    assert host(result).tolist() == [*(src[index == i][-1] for i in range(7)), 0]
    wide, columns = np.repeat(index[:, None], 3, 1), np.repeat(src[:, None], 3, 1)
    result = ic.scatter(on(device, np.zeros((8, 3), int)), on(device, wide), on(device, columns), 0)
    assert host(result)[:7, 2].tolist() == [src[index == i][-1] for i in range(7)]


@pytest.mark.parametrize("dtype", [ic.float32, ic.bfloat16])
def test_equal_calls_give_equal_bits(dtype: ic.dtype) -> None:
    random = np.random.default_rng(0)
    x, source = (ic.from_numpy(random.standard_normal(s)).to(dtype) for s in [(50, 300), (4000, 300)])
    index = ic.from_numpy(random.integers(0, 50, 4000))
    first = host(ic.index_add(x, 0, index, source)).tobytes()
    assert all(host(ic.index_add(x, 0, index, source)).tobytes() == first for _ in range(5))


@pytest.mark.parametrize("name", ["gather", "index_select", "index_add", "scatter"])
@pytest.mark.parametrize("wrong", [40, -1, 2**62])
def test_a_wrong_index_changes_nothing(name: str, wrong: int) -> None:
    x, index = ic.ones((40, 30), dtype=ic.float32, **CPU), np.zeros(5000, np.int64)
    index[4990] = wrong
    where, source = ic.from_numpy(index), ic.full((5000, 30), 7, dtype=ic.float32, **CPU)
    each = ic.from_numpy(np.repeat(index[:, None], 30, 1))
    out = ic.zeros((5000, 30), dtype=ic.float32, **CPU)
    calls = {
        "gather": lambda: ic.gather(x, 0, each, out=out),
        "index_select": lambda: ic.index_select(x, 0, where, out=out),
        "index_add": lambda: ic.index_add(x, 0, where, source, out=x),
        "scatter": lambda: ic.scatter(x, each, source, 0, out=x),
    }
    with pytest.raises(ic.OutOfRange, match=rf"^{name}: index holds {wrong}, but input has shape\[0\]=40$"):
        calls[name]()
    assert (x.numpy() == 1).all()
    assert (out.numpy() == 0).all()


@pytest.mark.parametrize("alpha", [0.5, float("nan"), float("inf")])
def test_a_fraction_of_integers_is_refused(alpha: float) -> None:
    x, index = ic.ones((3,), dtype=ic.int32, **CPU), ic.zeros((3,), dtype=ic.int64, **CPU)
    with pytest.raises(ic.InvalidArgument, match=rf"^index_add: alpha={alpha}.*i32"):
        ic.index_add(x, 0, index, x, alpha=alpha)


def test_reductions_by_name() -> None:
    x, index = ic.ones((3,), dtype=ic.float32, **CPU), ic.zeros((3,), dtype=ic.int64, **CPU)
    assert ic.scatter(x, index, x + 1, 0, "multiply").tolist() == [8, 1, 1]
    with pytest.raises(ic.InvalidArgument, match=r"^scatter: reduction='max'.*'none', 'add', 'multiply'"):
        ic.scatter(x, index, x, 0, reduction="max")
    flags = ic.ones((3,), dtype=ic.bool, **CPU)
    assert ic.scatter(flags, index, flags, 0).tolist() == [True] * 3
    with pytest.raises(ic.DTypeError, match=r"^scatter: input has T=bool, but reduction='add'"):
        ic.scatter(flags, index, flags, 0, "add")


@pytest.mark.parametrize(
    ("index", "src", "message"),
    [
        ((2, 2), (2, 2), r"^scatter: index has ndim=2, but input has ndim=1$"),
        ((3,), (2,), r"^scatter: index has size 3 in dimension 0, but src has 2$"),
    ],
)
def test_an_index_that_does_not_fit(index: Any, src: Any, message: str) -> None:
    x = ic.ones((3,), dtype=ic.float32, **CPU)
    with pytest.raises(ic.ShapeError, match=message):
        ic.scatter(x, ic.zeros(index, dtype=ic.int64, **CPU), ic.ones(src, dtype=ic.float32, **CPU), 0)


# ---- selection ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99, 1])
@pytest.mark.parametrize("dtype", [ic.uint8, ic.float16, ic.float32, ic.complex128])
def test_selection_of_many(share: float, dtype: ic.dtype, device: ic.device) -> None:
    random = np.random.default_rng(0)
    x, mask = random.integers(0, 99, (300, 1001)), random.random((300, 1001)) < share
    assert host(ic.masked_select(on(device, x, dtype), on(device, mask))).tolist() == x[mask].tolist()
    assert host(ic.masked_select(on(device, x.T, dtype), on(device, mask.T))).tolist() == x.T[mask.T].tolist()
    rows = mask[:, :1]
    want = x[np.broadcast_to(rows, x.shape)].tolist()
    assert host(ic.masked_select(on(device, x, dtype), on(device, rows))).tolist() == want


@pytest.mark.parametrize("size", [2, 4])
def test_selection_into_the_wrong_size(size: int) -> None:
    x, out = ic.from_list([1, 2, 3], **CPU), ic.zeros((size,), dtype=ic.int64, **CPU)
    with pytest.raises(ic.ShapeError, match=rf"^masked_select: out has n={size}, but mask selects 3$"):
        ic.masked_select(x, x > 0, out=out)
    assert out.tolist() == [0] * size


def test_shapes_that_do_not_broadcast() -> None:
    with pytest.raises(ic.ShapeError, match=r"^masked_select: mask has .*5.*3"):
        ic.masked_select(ic.ones((2, 3), dtype=ic.float32, **CPU), ic.ones((5,), dtype=ic.bool, **CPU))


@pytest.mark.parametrize("dtype", [ic.bool, ic.int8, ic.uint16, ic.bfloat16, ic.float32, ic.int64])
def test_count_of_many(dtype: ic.dtype, device: ic.device) -> None:
    x = np.random.default_rng(0).integers(0, 2, (700, 333))
    assert ic.count_nonzero(on(device, x, dtype)).item() == x.sum()
    assert ic.count_nonzero(on(device, x, dtype)[:, ::3]).item() == x[:, ::3].sum()


# ---- order -------------------------------------------------------------------------------------------------


def numbers(tensor: ic.Tensor) -> np.ndarray:
    values = host(tensor)
    return values.astype(np.float64) if values.dtype.kind == "V" else values


def order(x: np.ndarray, descending: bool) -> np.ndarray:
    """Stable, along the last dimension, NaN as the largest."""
    position = np.argsort(x[..., ::-1] if descending else x, axis=-1, kind="stable")
    return x.shape[-1] - 1 - position[..., ::-1] if descending else position


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(
    "dtype",
    ["bool", "int8", "uint16", "int32", "int64", "uint64", "float16", "bfloat16", "float32", "float64"],
)
def test_long_lines(dtype: str, descending: bool, device: ic.device) -> None:
    random = np.random.default_rng(1)
    x = random.standard_normal((2, 70001)) * (30 if dtype == "int8" else 9e3)
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    if kind.kind not in "iub":
        x[random.random(x.shape) < 0.01] = np.nan
        x[random.random(x.shape) < 0.01] = -0.0
        x[random.random(x.shape) < 0.01] = np.inf
    x = (np.abs(x) if kind.kind == "u" else x > 0 if kind.kind == "b" else x).astype(kind)
    wide = x.astype(np.float64) if kind.kind == "V" else x  # NumPy's own tests know no NaN of bfloat16
    want = order(wide, descending)
    tensor = on(device, wide, getattr(ic, dtype))
    values, indices = ic.sort(tensor, descending=descending)
    assert (host(indices) == want).all()
    np.testing.assert_array_equal(numbers(values), np.take_along_axis(wide, want, -1))
    for k in (1, 50, 40000):
        values, indices = ic.topk(tensor, k, 1, largest=descending)
        assert (host(indices) == want[:, :k]).all()
        np.testing.assert_array_equal(numbers(values), np.take_along_axis(wide, want[:, :k], -1))
        _, indices = ic.topk(tensor[:1], k, 1, descending, False)
        assert (host(indices) == np.sort(want[:1, :k])).all()


def test_indices_of_32_bits() -> None:
    x = ic.from_list([3.0, 1.0, 2.0], **CPU)
    out = ic.empty((3,), dtype=x.dtype, **CPU), ic.empty((3,), dtype=ic.int32, **CPU)
    values, indices = ic.sort(x, out=out)
    assert values is out[0] and indices is out[1]
    assert (values.tolist(), indices.tolist()) == ([1, 2, 3], [1, 2, 0])
    ic.topk(x, 1, 0, out=(values[:1], indices[:1]))
    assert (values.tolist(), indices.tolist()) == ([3, 2, 3], [0, 2, 0])


@pytest.mark.parametrize("k", [-1, 4])
def test_k_outside_the_dimension(k: int) -> None:
    with pytest.raises(ic.OutOfRange, match=rf"^topk: k={k} .*shape\[0\]=3$"):
        ic.topk(ic.ones((3,), dtype=ic.float32, **CPU), k, 0)


def test_sort_is_always_stable() -> None:
    with pytest.raises(ic.InvalidArgument, match=r"^sort: stable is reserved"):
        ic.sort(ic.ones((3,), dtype=ic.float32, **CPU), stable=False)
