# NumPy, torch and everything that speaks DLPack or the buffer protocol: shared memory where it can be.
from __future__ import annotations

import gc
import hashlib
import weakref

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import infinicore as ic
from infinicore import _dtype, utils

ALL = [dtype.name for dtype in _dtype.DTYPES]
BUFFERLESS = ["float8", "bfloat16", "complex16", "complex32"]


def values(name, shape=(2, 3)):
    """A tensor of small numbers that every dtype holds."""
    return ic.from_list([[i * shape[1] + j for j in range(shape[1])] for i in range(shape[0])], dtype=name)


# ---- NumPy ----


@pytest.mark.parametrize("name", ALL)
def test_numpy_shares_host_memory(name):
    tensor = values(name)
    array = tensor.numpy()
    assert array.dtype == utils.infinicore_to_numpy_dtype(name)
    assert array.ctypes.data == tensor.data_ptr()
    assert ic.from_numpy(array).tolist() == tensor.tolist()
    assert tensor.T.numpy().strides == array.T.strides
    array[0] = array[1]
    assert tensor.tolist()[0] == tensor.tolist()[1]


@pytest.mark.parametrize("name", ALL)
def test_numpy_of_device_memory_is_a_copy(name, device):
    tensor = values(name).to(device)
    assert tensor.to_numpy().tolist() == values(name).numpy().tolist()
    assert tensor[:, 1:].numpy().tolist() == values(name).numpy()[:, 1:].tolist()


def test_arrays_keep_the_memory_alive():
    tensor = ic.full((64,), 5, dtype=ic.int32, device="cpu")
    array = tensor.numpy()
    del tensor
    gc.collect()
    ic.zeros((64,), dtype=ic.int32, device="cpu")
    assert array.tolist() == [5] * 64


@given(st.data())
def test_from_numpy_takes_any_layout(data):
    dtype = data.draw(st.sampled_from(["i1", "u2", "f4", "c16", "?", ">i4"]))
    array = data.draw(npst.arrays(dtype, npst.array_shapes(max_dims=3, max_side=4)))
    key = data.draw(npst.basic_indices(array.shape))
    view = np.asarray(array[key])
    if view.size == 0:
        with pytest.raises(ValueError, match="cannot be empty"):
            ic.from_numpy(view)
        return
    tensor = ic.from_numpy(view)
    np.testing.assert_array_equal(tensor.numpy(), view)
    assert tensor.is_contiguous()
    tensor.zero_()
    assert not np.shares_memory(tensor.numpy(), array)


def test_from_numpy_converts_and_moves(device):
    tensor = ic.from_numpy(np.array([1.5, 2.5]), dtype=ic.float16, device=device)
    assert (tensor.dtype, tensor.device, tensor.tolist()) == (ic.float16, device, [1.5, 2.5])


def test_from_numpy_of_a_field_of_a_structure():
    table = np.zeros(4, dtype=[("flag", "i1"), ("value", "f4")])
    table["value"] = [1, 2, 3, 4]
    assert ic.from_numpy(table["value"]).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("data", [[1], 3, "abc", (1,), None])
def test_from_numpy_of_the_wrong_thing(data):
    with pytest.raises(TypeError, match=f"Input data must be a np.ndarray, got {type(data).__name__}"):
        ic.from_numpy(data)


def test_from_numpy_of_unknown_types():
    with pytest.raises(ic.DTypeError, match="Unsupported numpy dtype: datetime64"):
        ic.from_numpy(np.zeros(2, "datetime64[s]"))
    with pytest.raises(ic.DTypeError, match="Unsupported numpy dtype: object"):
        ic.from_numpy(np.array([None]))


def test_array_protocol(device):
    tensor = values("float32").to(device)
    assert np.asarray(tensor).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert np.asarray(tensor, dtype=np.float64).dtype == np.float64
    assert np.array(values("bfloat16")).dtype == ml_dtypes.bfloat16
    copied = np.array(tensor, copy=True)
    copied[:] = 9
    assert tensor.tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match="copy=False"):
        tensor.__array__(np.float64, copy=False)


# ---- the buffer protocol ----


@pytest.mark.parametrize("name", [name for name in ALL if name not in BUFFERLESS])
def test_buffers(name):
    tensor = values(name)
    view = memoryview(tensor.T)
    assert (view.shape, view.itemsize, view.ndim) == ((3, 2), tensor.itemsize, 2)
    assert view.strides == (tensor.itemsize, 3 * tensor.itemsize)
    assert not view.readonly
    if name != "float16" and not name.startswith("complex"):  # memoryview itself cannot read those
        assert memoryview(tensor).tolist() == tensor.tolist()
    assert bytes(memoryview(tensor)) == tensor.tobytes()
    # Some consumers take contiguous memory only.
    assert hashlib.md5(tensor).digest() == hashlib.md5(tensor.tobytes()).digest()
    with pytest.raises(BufferError, match="not contiguous"):
        hashlib.md5(tensor.T)


@pytest.mark.parametrize("name", BUFFERLESS)
def test_types_that_buffers_do_not_know(name):
    with pytest.raises(BufferError, match=f"no format for infinicore.{name}"):
        memoryview(values(name))


def test_device_memory_is_no_buffer():
    from infinicore.testing import sim

    sim.enable()
    with pytest.raises(BufferError, match="the memory of sim:0 cannot be read by the host"):
        memoryview(values("float32").to("sim:0"))


# ---- DLPack ----


@given(st.data())
def test_dlpack_with_numpy(data):
    array = data.draw(
        npst.arrays(st.sampled_from(["i1", "i8", "u4", "f2", "f4", "c8", "?"]), npst.array_shapes(min_dims=0))
    )
    key = data.draw(npst.basic_indices(array.shape, allow_ellipsis=False))
    view = array[(*(key if isinstance(key, tuple) else (key,)), ...)]
    tensor = ic.from_dlpack(view)
    np.testing.assert_array_equal(tensor.numpy(), view)
    if view.size:
        assert tensor.data_ptr() == view.ctypes.data
        assert np.from_dlpack(tensor).ctypes.data == tensor.data_ptr()
    np.testing.assert_array_equal(np.from_dlpack(tensor), view)


@pytest.mark.parametrize("version", [None, (0, 8), (1, 0), (1, 1)])
@pytest.mark.parametrize("name", [name for name in ALL if name != "complex16"])
def test_dlpack_capsules_both_ways(name, version):
    tensor = values(name).T
    capsule = tensor.__dlpack__(max_version=version)
    assert ("dltensor_versioned" if version and version[0] >= 1 else "dltensor") in repr(capsule)
    again = ic.from_dlpack(capsule)
    assert again.data_ptr() == tensor.data_ptr()
    assert (again.shape, again.stride()) == (tensor.shape, tensor.stride())
    assert again.dtype is (ic.uint8 if name == "byte" else tensor.dtype)
    with pytest.raises(ic.Error, match="can be used only once"):
        ic.from_dlpack(capsule)


def test_dlpack_keeps_both_sides_alive():
    def allocated():
        gc.collect()
        return ic.memory_stats("cpu")["allocated"]

    before = allocated()
    tensor = ic.full((1000,), 3, dtype=ic.int32, device="cpu")
    capsule = tensor.__dlpack__(max_version=(1, 0))
    del tensor
    assert allocated() > before
    borrowed = ic.from_dlpack(capsule)
    del capsule
    view = borrowed[10:]
    del borrowed
    assert view.tolist() == [3] * 990
    del view
    assert allocated() == before
    for version in (None, (1, 0)):  # nobody takes it
        ic.zeros((1000,), dtype=ic.int32, device="cpu").__dlpack__(max_version=version)
    assert allocated() == before


def test_dlpack_releases_what_it_borrowed():
    class Array(np.ndarray):
        """A plain array takes no weak references."""

    array = np.arange(10).view(Array)
    gone = weakref.ref(array)
    tensor = ic.from_dlpack(array)[2:]
    del array
    gc.collect()
    assert gone() is not None
    assert tensor.tolist() == list(range(2, 10))
    del tensor
    gc.collect()
    assert gone() is None


def test_dlpack_copies_when_asked():
    array = np.arange(4)
    assert ic.from_dlpack(array, copy=True).data_ptr() != array.ctypes.data
    assert ic.from_dlpack(array, copy=False).data_ptr() == array.ctypes.data
    tensor = ic.from_dlpack(array)
    assert np.from_dlpack(tensor, copy=True).ctypes.data != tensor.data_ptr()
    array.flags.writeable = False
    copied = ic.from_dlpack(array)
    copied[0] = 9
    assert array[0] == 0
    with pytest.raises(BufferError, match="read-only"):
        ic.from_dlpack(array, copy=False)


def test_dlpack_of_a_device():
    from infinicore.testing import sim

    sim.enable()
    tensor = values("float32").to("sim:1")
    assert tensor.__dlpack_device__() == (12, 1)
    again = ic.from_dlpack(tensor, device="sim:1")
    assert (again.data_ptr(), again.device) == (tensor.data_ptr(), tensor.device)
    assert ic.from_dlpack(tensor.__dlpack__(dl_device=(1, 0))).tolist() == tensor.tolist()
    assert ic.from_dlpack(tensor, device="cpu").device == ic.device("cpu")
    other = ic.ones((1,), dtype=ic.float32, device="sim2")  # a second backend with the same DLPack number
    assert ic.from_dlpack(tensor).data_ptr() == tensor.data_ptr()
    moved = ic.from_dlpack(tensor, device=other.device)
    assert moved.device == other.device and moved.tolist() == tensor.tolist()
    with pytest.raises(BufferError, match="copy=False"):
        tensor.__dlpack__(dl_device=(1, 0), copy=False)
    with pytest.raises(BufferError, match=r"dl_device \(2, 0\)"):
        tensor.__dlpack__(dl_device=(2, 0))


def test_dlpack_orders_streams():
    """The consumer's stream waits for the producer's, and freed memory for both."""
    from infinicore.testing import sim

    sim.enable()
    producer, consumer = ic.Stream("sim:0"), ic.Stream("sim:0")
    with sim.hold(producer):
        with ic.stream(producer):
            tensor = ic.empty((3,), dtype=ic.float32, device="sim:0")
            capsule = tensor.__dlpack__(stream=consumer.handle, max_version=(1, 0))
        event = consumer.record_event()
        assert not event.query()
        unordered = tensor.__dlpack__(stream=-1)
        assert "dltensor" in repr(unordered)
    event.synchronize()
    pending = ic.memory_stats("sim:0")["pending"]
    del tensor, capsule, unordered
    assert ic.memory_stats("sim:0")["pending"] == pending + 1
    ic.empty_cache("sim:0")
    assert ic.memory_stats("sim:0")["pending"] == 0


def test_dlpack_of_the_wrong_thing():
    with pytest.raises(TypeError, match="list has no __dlpack__"):
        ic.from_dlpack([1])
    with pytest.raises(BufferError, match=r"no name for infinicore.complex16"):
        values("complex16").__dlpack__()
    with pytest.raises(BufferError, match="stream 7 given for a tensor on cpu"):
        values("int8").__dlpack__(stream=7)


def test_cuda_array_interface_is_for_cuda():
    assert not hasattr(values("float32"), "__cuda_array_interface__")


# ---- torch ----


@pytest.mark.torch
@pytest.mark.parametrize("name", [name for name in ALL if name != "complex16"])
def test_torch_both_ways(name, torch):
    tensor = values(name)
    other = tensor.to_torch()
    assert other.dtype is utils.to_torch_dtype(name)
    assert (list(other.shape), other.data_ptr()) == ([2, 3], tensor.data_ptr())
    back = ic.from_torch(other.T)
    assert (back.shape, back.stride(), back.data_ptr()) == ([3, 2], [1, 3], tensor.data_ptr())
    assert back.tolist() == tensor.T.tolist()
    if name not in ("float8", "complex32"):
        assert other.tolist() == tensor.tolist()


@pytest.mark.torch
def test_torch_has_no_pair_of_float8(torch):
    with pytest.raises(ic.DTypeError, match=r"Unsupported infinicore dtype: infinicore.complex16"):
        values("complex16").to_torch()


@pytest.mark.torch
def test_negative_strides_go_to_torch_as_a_copy(torch):
    tensor = values("float32")
    assert tensor[::-1, ::2].to_torch().tolist() == [[3, 5], [0, 2]]


@pytest.mark.torch
def test_from_torch_keeps_the_tensor(torch):
    source = torch.arange(100, dtype=torch.float32, requires_grad=True)
    tensor = ic.from_torch(source)
    assert tensor._torch_ref is not None
    del source
    gc.collect()
    torch.full((100,), -1.0)
    assert tensor.tolist() == list(range(100))


@pytest.mark.torch
def test_from_torch_follows_later_changes(torch):
    source = torch.zeros(2, 3)
    tensor = ic.from_torch(source)
    source[1, 2] = 5
    assert tensor.tolist() == [[0, 0, 0], [0, 0, 5]]
    tensor[0] = 7
    assert source.tolist() == [[7, 7, 7], [0, 0, 5]]
    assert ic.from_torch(torch.zeros(0, 3)).shape == [0, 3]
    assert ic.from_torch(torch.tensor([1 + 2j]).conj()).tolist() == [1 - 2j]


@pytest.mark.torch
def test_from_torch_of_the_wrong_thing(torch):
    for wrong in ([1], np.zeros(3), values("int8")):
        with pytest.raises(TypeError, match=f"Input data must be a torch.Tensor, got {type(wrong).__name__}"):
            ic.from_torch(wrong)
    with pytest.raises(TypeError, match="must be dense"):
        ic.from_torch(torch.eye(3).to_sparse())
    with pytest.raises(TypeError, match="on meta"):
        ic.from_torch(torch.empty(3, device="meta"))
    with pytest.raises(ic.DTypeError, match="float8_e5m2"):
        ic.from_torch(torch.zeros(3).to(torch.float8_e5m2))


@pytest.mark.torch
def test_torch_dlpack(torch):
    tensor = values("float32")
    assert torch.from_dlpack(tensor.T).data_ptr() == tensor.data_ptr()
    assert ic.from_dlpack(torch.arange(6).reshape(2, 3).T).tolist() == [[0, 3], [1, 4], [2, 5]]
