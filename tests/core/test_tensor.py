# Tensors: what they say about themselves, views against NumPy, copies, operators, values, bad arguments.
from __future__ import annotations

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import infinicore as ic

SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def counted(shape, dtype=np.float32):
    """An array whose elements all differ, and a tensor that shares its memory."""
    array = np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape)
    return array, ic.from_dlpack(array)


def strides_of(array):
    return [step // array.itemsize for step in array.strides]


def viewed(array, key):
    """`array[key]` as a view even where NumPy would make a number of it."""
    key = key if isinstance(key, tuple) else (key,)
    return array[key] if Ellipsis in key else array[(*key, Ellipsis)]


def same(tensor, array):
    """Same shape and values, and the view's memory is the array's."""
    assert tensor.shape == list(array.shape)
    assert tensor.tolist() == array.tolist()
    if array.size:
        assert tensor.data_ptr() == array.ctypes.data


@pytest.fixture
def a():
    return ic.from_list([[0, 1, 2], [3, 4, 5]], dtype=ic.float32)


# ---- attributes ----


def test_attributes(a):
    assert (a.shape, a.ndim, a.numel(), a.dtype, a.dim()) == ([2, 3], 2, 6, ic.float32, 2)
    assert (a.size(), a.size(1), a.size(-1), a.stride(), a.stride(0)) == ([2, 3], 3, 3, [3, 1], 3)
    assert a.device == ic.device("cpu")
    assert isinstance(a.device, ic.device)
    assert a.is_contiguous()
    assert not a.permute([1, 0]).is_contiguous()
    assert not a.is_pinned()
    assert (a.itemsize, a.element_size(), a.nbytes) == (4, 4, 24)
    assert a[1].data_ptr() - a.data_ptr() == 12
    assert a[1].storage_offset() == 3
    assert len(a) == 2
    assert a._underlying.shape == a.shape


def test_shape_is_a_list_that_equals_a_tuple(a):
    assert isinstance(a.shape, list)
    assert a.shape == [2, 3]
    assert a.shape == (2, 3)
    assert a.shape == (2, 3)
    assert a.shape != (3, 2)
    assert a.shape != [2]
    assert a.shape.numel() == 6
    assert tuple(a.shape) == (2, 3)


def test_wrapping_a_tensor(a):
    again = ic.Tensor(a._underlying)
    again[0, 0] = 9
    assert a[0, 0].item() == 9
    with pytest.raises(TypeError, match=r"expected an infinicore.Tensor, got list"):
        ic.Tensor([1])


def test_subclasses(a):
    class Parameter(ic.Tensor):
        pass

    parameter = Parameter(a)
    parameter.label = "weight"
    assert parameter.label == "weight"
    assert parameter.tolist() == a.tolist()
    assert type(parameter + 1) is ic.Tensor
    assert type(copy.deepcopy(parameter)) is Parameter


def test_an_uninitialised_tensor_does_not_crash():
    broken = ic.Tensor.__new__(ic.Tensor)
    with pytest.raises(ic.InvalidArgument, match="before it was initialised"):
        broken.device  # noqa: B018
    with pytest.raises(ic.InvalidArgument, match="before it was initialised"):
        broken.clone()


def test_layouts_are_interned_while_they_live():
    from infinicore import _tensor

    base = ic.zeros((64, 64), dtype=ic.int8, device="cpu")
    held = [base[:i, :j] for i in range(1, 65) for j in range(1, 65)]
    before = _tensor.layout_count()
    again = [base[:i, :j] for i in range(1, 65) for j in range(1, 65)]
    assert _tensor.layout_count() == before
    assert [x.shape for x in held] == [x.shape for x in again]


def test_the_layout_table_is_bounded():
    from infinicore import _tensor

    base = ic.zeros((400, 400), dtype=ic.int8, device="cpu")
    for i in range(1, 401):
        for j in range(1, 401):
            base.narrow(0, 0, i).narrow(1, 0, j)
    assert _tensor.layout_count() < 400 * 400
    assert base.shape == [400, 400]


# ---- views against NumPy ----


@given(st.data())
def test_basic_indexing(data):
    array, tensor = counted(data.draw(SHAPES))
    key = data.draw(npst.basic_indices(array.shape, allow_newaxis=True))
    same(tensor[key], viewed(array, key))


@given(st.data())
def test_assignment_through_an_index(data):
    array, tensor = counted(data.draw(SHAPES))
    expected = array.copy()
    key = data.draw(npst.basic_indices(array.shape))
    if data.draw(st.booleans()):
        tensor[key] = 7
        expected[key] = 7
    else:
        value = np.full(np.asarray(expected[key]).shape[-1:], -1, dtype=np.float32)
        tensor[key] = ic.from_dlpack(value)
        expected[key] = value
    np.testing.assert_array_equal(array, expected)


@given(st.data())
def test_permute_transpose_and_t(data):
    array, tensor = counted(data.draw(SHAPES))
    order = data.draw(st.permutations(range(array.ndim)))
    same(tensor.permute(order), array.transpose(order))
    same(tensor.permute(*order) if order else tensor, array.transpose(order))
    same(tensor.permute([dim - array.ndim for dim in order]), array.transpose(order))
    same(tensor.T, array.T)
    if array.ndim:
        one, two = (data.draw(st.integers(-array.ndim, array.ndim - 1)) for _ in range(2))
        same(tensor.transpose(one, two), array.swapaxes(one, two))


@given(st.data())
def test_narrow(data):
    array, tensor = counted(data.draw(npst.array_shapes(max_dims=4, max_side=5)))
    dim = data.draw(st.integers(-array.ndim, array.ndim - 1))
    start = data.draw(st.integers(0, array.shape[dim]))
    length = data.draw(st.integers(0, array.shape[dim] - start))
    expected = np.take(array, range(start, start + length), axis=dim)
    for view in (tensor.narrow(dim, start, length), ic.narrow(tensor, dim, start, length)):
        assert view.tolist() == expected.tolist()
        assert view.shape == list(expected.shape)


@given(st.data())
def test_squeeze_and_unsqueeze(data):
    array, tensor = counted(data.draw(npst.array_shapes(min_dims=1, max_dims=4, max_side=2)))
    same(tensor.squeeze(), array.squeeze())
    dim = data.draw(st.integers(-array.ndim, array.ndim - 1))
    same(tensor.squeeze(dim), array.squeeze(dim) if array.shape[dim] == 1 else array)
    dim = data.draw(st.integers(-array.ndim - 1, array.ndim))
    same(tensor.unsqueeze(dim), np.expand_dims(array, dim))
    assert tensor.unsqueeze(dim).is_contiguous()


@given(st.data())
def test_expand(data):
    array, tensor = counted(data.draw(npst.array_shapes(min_dims=0, max_dims=3, max_side=3)))
    more = data.draw(npst.array_shapes(min_dims=0, max_dims=2, max_side=3))
    shape = (*more, *(data.draw(st.integers(0, 3)) if size == 1 else size for size in array.shape))
    same(tensor.expand(*shape) if shape else tensor.expand(()), np.broadcast_to(array, shape))
    kept = [
        -1 if i >= len(more) and array.shape[i - len(more)] == size else size for i, size in enumerate(shape)
    ]
    assert tensor.expand(kept).shape == list(shape)


@given(st.data())
def test_view_and_reshape(data):
    """`view` shares memory exactly where NumPy can reshape without a copy; `reshape` always works."""
    array, tensor = counted(data.draw(npst.array_shapes(min_dims=1, max_dims=4, max_side=4)))
    order = data.draw(st.permutations(range(array.ndim)))
    array, tensor = array.transpose(order), tensor.permute(order)
    key = tuple(
        data.draw(st.sampled_from([slice(None), slice(None, None, 2), slice(None, None, -1)])) for _ in order
    )
    array, tensor = array[key], tensor[key]
    shape = data.draw(st.sampled_from(factorisations(array.size)))
    expected = array.reshape(shape)
    assert tensor.reshape(shape).tolist() == expected.tolist()
    if np.shares_memory(expected, array):
        same(tensor.view(shape), expected)
        assert tensor.reshape(shape).data_ptr() == tensor.data_ptr()
    else:
        with pytest.raises(ic.StrideError, match="use reshape, which copies"):
            tensor.view(shape)
    unknown = data.draw(st.integers(0, len(shape) - 1))
    assert tensor.reshape([-1 if i == unknown else size for i, size in enumerate(shape)]).shape == list(shape)


def factorisations(size):
    """Shapes of up to three dimensions with this many elements, sizes 1 among them."""
    factors = [i for i in range(1, size + 1) if size % i == 0]
    shapes = [(size,), (1, size), (size, 1, 1)]
    shapes += [(i, size // i) for i in factors]
    shapes += [(i, j, size // i // j) for i in factors for j in factors if size % (i * j) == 0]
    return shapes


@given(st.data())
def test_as_strided(data):
    array, tensor = counted((24,))
    size = data.draw(st.lists(st.integers(0, 3), max_size=3))
    stride = [data.draw(st.integers(-4, 9)) for _ in size]
    offset = data.draw(st.integers(0, 23))
    lowest = offset + sum(min((n - 1) * step, 0) for n, step in zip(size, stride, strict=True))
    highest = offset + sum(max((n - 1) * step, 0) for n, step in zip(size, stride, strict=True))
    if 0 in size or (lowest >= 0 and highest < 24):
        view = tensor.as_strided(size, stride, offset)
        expected = [
            array[offset + sum(i * s for i, s in zip(at, stride, strict=True))] for at in np.ndindex(*size)
        ]
        assert np.array(view.tolist()).reshape(-1).tolist() == expected
        assert view.stride() == stride
    else:
        with pytest.raises(ic.InvalidArgument, match="of a storage of 96 bytes"):
            tensor.as_strided(size, stride, offset)


def test_views_share_memory(a):
    assert a.as_strided([2, 2], [1, 1]).tolist() == [[0, 1], [1, 2]]
    a.view([3, 2])[2, 1] = 50
    a.permute([1, 0])[0, 1] = 30
    a.view(6).narrow(0, 1, 2).fill_(8)
    a.expand([4, 2, 3])
    assert a.tolist() == [[0, 8, 8], [30, 4, 50]]
    assert a.flatten().data_ptr() == a.data_ptr()
    assert a.flatten(0, -1).shape == [6]
    assert a.unsqueeze(0).flatten(0, 1).shape == [2, 3]
    assert [row.tolist() for row in a] == a.tolist()


def test_views_keep_the_memory_alive(a):
    view = a[1]
    gone = weakref.ref(a)
    del a
    gc.collect()
    if gone() is None:  # pytest's fixture cache may still hold it
        ic.empty((2, 3), dtype=ic.float32, device="cpu").fill_(99)
    assert view.tolist() == [3, 4, 5]


BAD_VIEWS = [
    (lambda a: a.permute([0, 0]), ic.InvalidArgument, r"permute: dims \[0, 0\] names dimension 0 twice"),
    (lambda a: a.permute([0]), ic.ShapeError, r"permute: dims \[0\] has 1 entries for 2 dimensions"),
    (lambda a: a.permute([0, 2]), ic.OutOfRange, "permute: dims: 2 is out of range for 2 dimensions"),
    (lambda a: a.view(4), ic.ShapeError, r"view: shape \[4\] does not hold the 6 elements of shape \[2, 3\]"),
    (lambda a: a.view(-1, 4), ic.ShapeError, "does not hold the 6 elements"),
    (lambda a: a.view(-1, -1), ic.ShapeError, "more than one -1"),
    (lambda a: a.view(-2, -3), ic.ShapeError, "negative size -2"),
    (lambda a: a.view("x"), ic.ArgumentTypeError, "view: shape"),
    (
        lambda a: a.T.view(6),
        ic.StrideError,
        r"shape \[6\] cannot be laid over shape \[3, 2\] with strides \[1, 3\]",
    ),
    (lambda a: a.narrow(0, 1, 2), ic.OutOfRange, "narrow: start 1 and length 2 leave dimension 0 of size 2"),
    (lambda a: a.narrow(2, 0, 1), ic.OutOfRange, "narrow: dim: 2 is out of range for 2 dimensions"),
    (lambda a: a.narrow(0, 2**63 - 1, 2**63 - 1), ic.OutOfRange, "leave dimension 0"),
    (lambda a: a.narrow(0, 0, -1), ic.OutOfRange, "length -1"),
    (
        lambda a: ic.narrow([1], 0, 0, 1),
        ic.ArgumentTypeError,
        "narrow: input: expected an infinicore.Tensor, got list",
    ),
    (lambda a: a.expand(3, 3), ic.ShapeError, r"shape \[2, 3\] does not broadcast to \[3, 3\]"),
    (lambda a: a.expand(3), ic.ShapeError, "does not broadcast"),
    (lambda a: a.expand(-1, 2, 3), ic.ShapeError, "negative"),
    (lambda a: a.as_strided([2], [1, 1]), ic.ShapeError, "size has 1 entries, stride has 2"),
    (lambda a: a.as_strided([2], [2**62]), ic.ShapeError, "spans more than"),
    (lambda a: a.as_strided([2], [1], 2**62), ic.InvalidArgument, "storage_offset"),
    (
        lambda a: a.as_strided([1], [1], -1),
        ic.InvalidArgument,
        "storage_offset -1 lies outside a storage of 24 bytes",
    ),
    (lambda a: a[2], ic.OutOfRange, "index 2 is out of range for dimension 0 of size 2"),
    (lambda a: a[0, -4], ic.OutOfRange, "index -4 is out of range for dimension 1 of size 3"),
    (lambda a: a[0, 0, 0], ic.OutOfRange, "3 indices for 2 dimensions"),
    (lambda a: a[..., ...], ic.InvalidArgument, "more than one Ellipsis"),
    (lambda a: a[::0], ic.InvalidArgument, "slice step cannot be zero"),
    (lambda a: a[[0, 1]], ic.ArgumentTypeError, "list is no index"),
    (lambda a: a[True], ic.ArgumentTypeError, "bool is no index"),
    (lambda a: a[1.0], ic.ArgumentTypeError, "float is no index"),
    (lambda a: a[a > 1], ic.ArgumentTypeError, "Tensor is no index"),
    (lambda a: a[2**70], ic.InvalidArgument, "does not fit into 64 bits"),
    (lambda a: a.squeeze(2), ic.OutOfRange, "squeeze: dim: 2 is out of range"),
    (lambda a: a.unsqueeze(4), ic.OutOfRange, "unsqueeze: dim: 4 is out of range"),
    (lambda a: a.size(2), ic.OutOfRange, "size: dim: 2 is out of range"),
    (lambda a: a.flatten(1, 0), ic.InvalidArgument, "start_dim 1 comes after end_dim 0"),
    (lambda a: a.item(), ic.ShapeError, "6 elements in shape"),
    (lambda a: bool(a), ic.ShapeError, "no truth value"),
    (lambda a: len(a[0, 0]), ic.ArgumentTypeError, "0-d tensor has no length"),
    (lambda a: list(a[0, 0]), ic.ArgumentTypeError, "0-d tensor cannot be iterated"),
    (
        lambda a: a.copy_(a.T),
        ic.ShapeError,
        r"src has shape \[3, 2\], the tensor it is copied into has \[2, 3\]",
    ),
    (lambda a: a.copy_([1]), ic.ArgumentTypeError, "copy_: src: expected an infinicore.Tensor, got list"),
    (lambda a: a.to("float99"), ic.UnknownDevice, "float99"),
    (lambda a: a.to(1.5), ic.DTypeError, "1.5 does not name"),
    (lambda a: a.__setitem__(0, "x"), ic.ArgumentTypeError, "expected a tensor or a number, got str"),
    (lambda a: a.__setitem__(0, a), ic.ShapeError, r"value of shape \[2, 3\] does not broadcast to \[3\]"),
    (lambda a: range(3)[a[0, 1]], ic.DTypeError, "only an integer tensor can be an index"),
    (lambda a: 1 in a, ic.ArgumentTypeError, "not defined for tensors"),
    (lambda a: a.record_stream("x"), ic.ArgumentTypeError, "record_stream: stream: expected a Stream"),
    (lambda a: a.record_stream(-1), ic.InvalidArgument, "record_stream: stream: -1 is no handle"),
]


@pytest.mark.parametrize("case", range(len(BAD_VIEWS)))
def test_impossible_requests(a, case):
    act, error, message = BAD_VIEWS[case]
    with pytest.raises(error, match=message):
        act(a)
    assert a.tolist() == [[0, 1, 2], [3, 4, 5]]


# ---- copies ----


@given(st.data())
def test_copies_between_any_layouts(data):
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    dtype = data.draw(st.sampled_from([np.int8, np.int16, np.float32, np.complex128]))

    def view():
        """A view of `shape`, turned and with gaps, and the array behind it."""
        order = data.draw(st.permutations(range(len(shape))))
        steps = [data.draw(st.sampled_from([1, 2, -1])) for _ in shape]
        sizes = [shape[i] * abs(steps[i]) for i in order]
        array, tensor = counted(sizes, dtype)
        back = np.argsort(order).tolist()
        key = tuple(slice(None, None, step) for step in steps)
        return array.transpose(back)[key], tensor.permute(back)[key]

    source, source_tensor = view()
    target, target_tensor = view()
    assert target_tensor.copy_(source_tensor) is target_tensor
    np.testing.assert_array_equal(target, source)
    contiguous = source_tensor.contiguous()
    assert contiguous.is_contiguous()
    assert contiguous.tolist() == source.tolist()


def test_contiguous(a):
    assert a.contiguous() is a
    turned = a.permute([1, 0]).contiguous()
    assert (turned.tolist(), turned.stride()) == ([[0, 3], [1, 4], [2, 5]], [2, 1])
    assert a.clone().data_ptr() != a.data_ptr()


def test_copies_onto_itself_go_through_a_temporary():
    line = ic.arange(8, dtype=ic.int32, device="cpu")
    line[1:].copy_(line[:-1])
    assert line.tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    line = ic.arange(8, dtype=ic.int32, device="cpu")
    line.copy_(line[::-1])
    assert line.tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    square = ic.arange(9, dtype=ic.int32, device="cpu").view(3, 3)
    square.copy_(square.T)
    assert square.tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


def test_large_copies_onto_itself():
    array = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)
    tensor = ic.from_numpy(array)
    tensor.copy_(tensor.T)
    np.testing.assert_array_equal(tensor.numpy(), array.T)


def test_to(a):
    assert a.to(ic.float32) is a
    assert a.to("cpu") is a
    assert a.to(ic.device("cpu")) is a
    assert a.to("cpu", copy=True) is not a
    for half in (
        a.to(ic.float16),
        a.to("float16"),
        a.to(dtype=ic.half),
        a.to("cpu", ic.float16),
        a.to(np.float16),
    ):
        assert (half.dtype, half.tolist()) == (ic.float16, a.tolist())
    assert a.to(a.to(ic.int8)).dtype is ic.int8
    assert a.T.to(ic.int64).tolist() == a.T.tolist()
    assert a[:0].to(ic.int64).shape == [0, 3]
    b = ic.zeros((2, 3), dtype=ic.int32, device="cpu")
    assert b.copy_(a).tolist() == [[0, 1, 2], [3, 4, 5]]


@given(st.data())
def test_to_and_from_a_device(data):
    """Any view of any layout keeps its values on the way to the simulated device and back."""
    from infinicore.testing import sim

    sim.enable()
    array, tensor = counted(data.draw(SHAPES), data.draw(st.sampled_from([np.int8, np.float32, np.float64])))
    there = tensor.to("sim:0")
    assert there.device == ic.device("sim:0")
    key = data.draw(npst.basic_indices(array.shape))
    view = there[key]
    assert view.tolist() == array[key].tolist()
    assert view.cpu().tolist() == array[key].tolist()
    assert view.to("sim:1").to("sim2:0").tolist() == array[key].tolist()
    there[key] = 1
    array[key] = 1
    np.testing.assert_array_equal(there.numpy(), array)


def test_large_transfers_between_vendors():
    from infinicore.testing import sim

    sim.enable()
    array = np.arange(5 << 20, dtype=np.int32)  # 20 MiB: more than one piece
    there = ic.from_numpy(array, device="sim:0").to("sim2:0")
    np.testing.assert_array_equal(there.numpy(), array)
    np.testing.assert_array_equal(there.to("sim:1")[::2].cpu().numpy(), array[::2])


# ---- values ----


def test_numbers_of_single_elements(a):
    one = a[0, 1]
    assert (one.item(), float(one), int(one), bool(one), complex(one)) == (1.0, 1.0, 1, True, 1 + 0j)
    assert not a[0, 0]
    assert a[1:, 2:].item() == 5
    assert range(9)[ic.from_list([3], dtype=ic.int8)[0]] == 3
    assert isinstance(ic.from_list([3], dtype=ic.int8).item(), int)
    assert ic.from_list([True]).item() is True


def test_fill(a):
    assert a.T[1].fill_(7) is not None
    assert a.tolist() == [[0, 7, 2], [3, 7, 5]]
    assert a.zero_() is a
    assert a.tolist() == [[0] * 3] * 2
    big = ic.empty((300, 301), dtype=ic.float32, device="cpu")
    big[:, ::2] = 1.5
    big[:, 1::2] = -1.5
    expected = np.where(np.arange(301) % 2 == 0, 1.5, -1.5)
    np.testing.assert_array_equal(big.numpy(), np.broadcast_to(expected, (300, 301)).astype(np.float32))


def test_pickle_and_deepcopy(a, device):
    there = a.T.to(device)
    for again in (pickle.loads(pickle.dumps(there)), copy.deepcopy(there)):
        assert again.tolist() == a.T.tolist()
        assert (again.dtype, again.device) == (there.dtype, there.device)
        assert again.data_ptr() != there.data_ptr()


# ---- operators ----

BINARY = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x / y,
    "==": lambda x, y: x == y,
    "!=": lambda x, y: x != y,
    "<": lambda x, y: x < y,
    "<=": lambda x, y: x <= y,
    ">": lambda x, y: x > y,
    ">=": lambda x, y: x >= y,
}


@pytest.mark.parametrize("sign", BINARY)
@given(st.data())
def test_binary_operators_broadcast(sign, data):
    shapes = data.draw(npst.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=1, max_side=3))
    values = npst.arrays(np.float32, st.just(()), elements=st.integers(1, 9))
    left = data.draw(npst.arrays(np.float32, shapes.input_shapes[0], elements=st.integers(1, 9)))
    right = data.draw(npst.arrays(np.float32, shapes.input_shapes[1], elements=st.integers(1, 9)))
    number = float(data.draw(values))
    act = BINARY[sign]
    x, y = ic.from_dlpack(left), ic.from_dlpack(right)
    for result, expected in (
        (act(x, y), act(left, right)),
        (act(x, number), act(left, np.float32(number))),
        (act(number, x), act(np.float32(number), left)),
        (act(x, np.float32(number)), act(left, np.float32(number))),
    ):
        assert result.dtype is (ic.bool if sign in "== != <= >=" else ic.float32)
        np.testing.assert_array_equal(result.numpy(), expected)


def test_unary_operators_and_pow(a):
    assert (-a).tolist() == [[-0.0, -1, -2], [-3, -4, -5]]
    assert abs(-a).tolist() == a.tolist()
    assert +a is a
    assert (a**2).tolist() == [[0, 1, 4], [9, 16, 25]]
    assert (2**a).tolist() == [[1, 2, 4], [8, 16, 32]]


def test_in_place_operators(a):
    place = a.data_ptr()
    view = a[0]
    a += 1
    a *= ic.from_list([1.0, 2.0, 3.0], dtype=ic.float32)
    a -= a[0]
    a /= 2
    assert a.data_ptr() == place
    # (a + 1) * (1, 2, 3) = [[1, 4, 9], [4, 10, 18]], less its first row, halved
    assert a.tolist() == [[0, 0, 0], [1.5, 3, 4.5]]
    assert view.tolist() == [0, 0, 0]
    with pytest.raises(ic.ShapeError):
        view += a


def test_matmul(a):
    assert (a @ a.T).tolist() == [[5, 14], [14, 50]]


def test_numbers_are_not_promoted():
    whole = ic.ones((3,), dtype=ic.int32, device="cpu")
    assert (whole + 2).tolist() == [3, 3, 3]
    assert (whole + True).dtype is ic.int32
    with pytest.raises(ic.DTypeError, match=r"add: other: the float 1.5 and a tensor of infinicore.int32"):
        whole + 1.5
    with pytest.raises(ic.DTypeError, match=r"complex number 1j and a tensor of infinicore.float32"):
        ic.ones((3,), dtype=ic.float32, device="cpu") * 1j
    with pytest.raises(ic.InvalidArgument, match=r"4294967296 does not fit into infinicore.int32"):
        whole + 2**32
    with pytest.raises(ic.Error):
        whole + ic.ones((3,), dtype=ic.float32, device="cpu")


def test_numbers_keep_their_sign_of_zero():
    """-0.0 and 0.0 are equal as Python numbers and must not share a cached operand."""
    one = ic.full((), 1, dtype=ic.float32, device="cpu")
    for zero, expected in ((0.0, np.inf), (-0.0, -np.inf), (0.0, np.inf)):
        assert (one / zero).item() == expected


def test_strangers_on_the_other_side(a):
    with pytest.raises(TypeError):
        a + "x"
    with pytest.raises(TypeError):
        a < None  # noqa: B015
    assert (a == None) is False  # noqa: E711
    assert (a != "x") is True


@pytest.mark.parametrize("array", [np.ones(3, np.float32), np.ones((1, 1), np.int64)])
def test_arrays_are_not_taken_implicitly(a, array):
    """NumPy would otherwise convert the tensor, copying it from its device, and answer with an array."""
    for act in (
        lambda: a + array,
        lambda: array + a,
        lambda: a @ array,
        lambda: a == array,
        lambda: a.clone().__imul__(array),
    ):
        with pytest.raises(
            ic.ArgumentTypeError, match=r"other: expected .* got numpy\.ndarray; .*from_numpy"
        ):
            act()
    with pytest.raises(ic.ArgumentTypeError, match="fill_: value: expected a number, got ndarray"):
        a.clone().fill_(array)
    assert (a + np.array(2.0)).tolist() == (a + 2).tolist()


def test_numbers_that_do_not_fit_name_operator_and_argument(a):
    for act, message in (
        (
            lambda: a.to(ic.int8) + 1000,
            r"add: other: 1000 does not fit into infinicore\.int8 \(-128 to 127\)",
        ),
        (
            lambda: a.to(ic.uint8).fill_(-1),
            r"fill_: value: -1 does not fit into infinicore\.uint8 \(0 to 255\)",
        ),
        (lambda: ic.from_list([1, 300], dtype=ic.int8), r"from_list: data: 300 does not fit"),
        (lambda: ic.arange(200, dtype=ic.int8, device="cpu"), "arange: 128 does not fit"),
    ):
        with pytest.raises(ic.InvalidArgument, match=message):
            act()


def test_impossible_sizes_name_the_function():
    for name, arguments in (
        ("empty", ((-1, 2),)),
        ("zeros", ((-1, 2),)),
        ("strided_empty", ((-1, 2), (2, 1))),
    ):
        with pytest.raises(ic.ShapeError, match=rf"^{name}: shape: size -1 of dimension 0 is negative"):
            getattr(ic, name)(*arguments, dtype=ic.float32, device="cpu")
    with pytest.raises(ic.ShapeError, match=r"^from_blob: shape: .* spans more than"):
        ic.from_blob(64, (2**62,), dtype=ic.float32, device="cpu")


def test_hash_is_by_identity(a):
    assert {a: 1, a.clone(): 2}[a] == 1


def test_operands_on_different_devices(a):
    from infinicore.testing import sim

    sim.enable()
    with pytest.raises(ic.DeviceMismatch, match=r"cpu.*sim|sim.*cpu"):
        a + a.to("sim:0")


@pytest.mark.torch
def test_torch_tensors_are_not_taken_implicitly(a, torch):
    with pytest.raises(TypeError, match=r"torch|Tensor"):
        ic.add(torch.ones(2, 3), a)
    with pytest.raises(
        ic.ArgumentTypeError, match=r"add: other: expected .* got torch\.Tensor; .*from_torch"
    ):
        a + torch.ones(2, 3)
    assert (a + torch.tensor(2.5)).tolist() == (a + 2.5).tolist()  # Python's protocol of numbers


def test_debug(a, capsys, tmp_path):
    a.debug()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Tensor: shape[ 2 3 ] strides[ 3 1 ] dtype=F32 device=CPU:0"
    assert [list(map(float, line.split())) for line in lines[1:]] == a.tolist()
    assert a.info() == lines[0]
    with pytest.raises(ic.ArgumentTypeError, match="debug: filename: expected a path, got int"):
        a.debug(1)  # not to the descriptor of that number
    a.T.debug(str(tmp_path / "x.bin"))
    np.testing.assert_array_equal(np.fromfile(tmp_path / "x.bin", np.float32), [0, 3, 1, 4, 2, 5])
