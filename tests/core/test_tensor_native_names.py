# infinicore.lib._infinicore: the names that programs written for the older native module import.
from __future__ import annotations

import pytest

import infinicore as ic
from infinicore.lib import _infinicore

DATA_TYPES = "BYTE BOOL I8 I16 I32 I64 U8 U16 U32 U64 F8 F16 F32 F64 C16 C32 C64 C128 BF16".split()
CLASSES = "Tensor Device DataType DeviceEvent Graph RoPEAlgo".split()
FUNCTIONS = """empty from_blob get_device get_device_count get_stream is_graph_recording ones set_device
    start_graph_recording stop_graph_recording strided_empty strided_from_blob sync_device sync_stream
    zeros""".split()
OPERATORS = """add add_rms_norm attention causal_softmax embedding linear matmul mul paged_attention
    random_sample rearrange rms_norm rope silu swiglu""".split()
METHODS = """shape strides ndim dtype device data_ptr size stride numel is_contiguous is_pinned info debug
    copy_ to contiguous as_strided narrow permute view unsqueeze squeeze""".split()


def test_every_name_is_there():
    for name in [*CLASSES, *FUNCTIONS, *OPERATORS, *(name + "_" for name in OPERATORS)]:
        assert hasattr(_infinicore, name), name
    for name in METHODS:
        assert hasattr(_infinicore.Tensor, name), name
    assert {member.name for member in _infinicore.RoPEAlgo} >= {"GPT_J", "GPT_NEOX"}


@pytest.mark.parametrize("name", DATA_TYPES)
def test_data_types(name):
    dtype = getattr(_infinicore.DataType, name)
    assert isinstance(dtype, ic.dtype)
    tensor = _infinicore.zeros([2], dtype, _infinicore.Device(_infinicore.Device.Type.CPU, 0))
    assert tensor.dtype is dtype
    assert dtype._underlying is dtype


def test_devices():
    native = ic.device("cpu")._underlying
    assert native.type == _infinicore.Device.Type.CPU
    assert ic.device._from_infinicore_device(native) == ic.device("cpu")


def test_operators_in_both_forms():
    a = _infinicore.ones([2, 3], ic.float32, ic.device("cpu"))
    out = _infinicore.empty([2, 3], ic.float32, ic.device("cpu"))
    assert _infinicore.add(a, a).tolist() == [[2] * 3] * 2
    _infinicore.add_(out, a, a)
    assert out.tolist() == [[2] * 3] * 2
    product = _infinicore.empty([2, 2], ic.float32, ic.device("cpu"))
    _infinicore.matmul_(product, a, a.permute([1, 0]))
    assert product.tolist() == [[3, 3], [3, 3]]
    weight = _infinicore.ones([3], ic.float32, ic.device("cpu"))
    residual = _infinicore.empty([2, 3], ic.float32, ic.device("cpu"))
    _infinicore.add_rms_norm_(out, residual, a, a, weight, 1e-5)
    assert residual.tolist() == [[2] * 3] * 2
    assert out[0, 0].item() == pytest.approx(1, rel=1e-5)


def test_strided_and_foreign_memory():
    a = _infinicore.strided_empty([2, 3], [1, 2], ic.float32, ic.device("cpu"))
    assert a.strides == [1, 2]
    b = _infinicore.ones([6], ic.float32, ic.device("cpu"))
    assert _infinicore.from_blob(b.data_ptr(), [2, 3], ic.float32, ic.device("cpu")).tolist() == [[1] * 3] * 2
    turned = _infinicore.strided_from_blob(b.data_ptr(), [3, 2], [1, 3], ic.float32, ic.device("cpu"))
    assert turned.shape == [3, 2]


def test_context():
    assert _infinicore.get_device() == ic.device("cpu")
    assert _infinicore.get_device_count("cpu") == 1
    _infinicore.sync_stream()
    _infinicore.sync_device()
    assert _infinicore.is_graph_recording() is False
