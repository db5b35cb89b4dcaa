# The ctypes package that operator scripts use: its names and numbers, what its tensors hold, and that every
# C function that it types behaves as it says.
"""infinicore.testing.libinfiniop."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import threading
import types
import weakref

import numpy as np
import pytest

import infinicore
from infinicore.schema import OPERATORS, c_prototypes
from infinicore.testing import libinfiniop as lib
from infinicore.testing.libinfiniop import liboperators, op_register, utils

pytestmark = pytest.mark.torch
CPU, NVIDIA = lib.InfiniDeviceEnum.CPU, lib.InfiniDeviceEnum.NVIDIA
F16, F32, BF16 = lib.InfiniDtype.F16, lib.InfiniDtype.F32, lib.InfiniDtype.BF16


@pytest.fixture
def handle():
    lib.check_error(lib.LIBINFINIOP.infinirtSetDevice(CPU, 0))
    created = lib.create_handle()
    yield created
    lib.destroy_handle(created)


# ---- names and numbers -------------------------------------------------------------------------------------

NAMES = """LIBINFINIOP TestTensor TestWorkspace CTensor InfiniDtype InfiniDtypeNames InfiniDeviceEnum
InfiniDeviceNames torch_device_map infiniopHandle_t infiniopTensorDescriptor_t infiniopOperatorDescriptor_t
check_error create_handle destroy_handle get_args get_test_devices test_operator debug debug_all
get_tolerance profile_operation timed_op synchronize_device get_sync_func to_torch_dtype to_numpy_dtype
rearrange_tensor print_discrepancy filter_tensor_dtypes_by_device open_lib"""


@pytest.mark.parametrize("name", NAMES.split())
def test_name_is_there(name):
    assert getattr(lib, name) is not None


def test_top_level_name_is_the_same_package():
    """Scripts import `libinfiniop`; PyTorch comes with their first tensor, not with the import."""
    code = """
import sys
import libinfiniop
from libinfiniop.utils import TestTensor
import infinicore.testing.libinfiniop as ours
assert libinfiniop is ours and TestTensor is ours.TestTensor
assert TestTensor.__module__.endswith("utils"), TestTensor.__module__
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def test_classes_live_in_their_modules():
    assert lib.InfiniLib.__module__.endswith("liboperators")
    assert lib.OpRegister.__module__.endswith("op_register")
    for entry in (lib.TensorDescriptor, lib.Handle, lib.OpDescriptor):
        assert entry.__module__.endswith("structs")


def test_dtypes_are_those_of_the_schema():
    from infinicore.schema import DTYPES

    numbers = {short.upper(): number for short, (number, _) in DTYPES.items()}
    header = {name: n for name, n in vars(lib.infiniDtype_t).items() if name in numbers}
    assert header == numbers
    scripts = {name: number for name, number in vars(lib.InfiniDtype).items() if name.isupper()}
    assert len(scripts) == 22
    assert (scripts["C8"], scripts["C16"], scripts["C32"], scripts["C64"], scripts["C128"]) == (
        15,
        16,
        17,
        18,
        18,
    )
    assert [lib.InfiniDtypeNames[number] for number in (0, 1, 12, 13, 18, 19)] == [
        "INVALID",
        "BYTE",
        "F16",
        "F32",
        "C64",
        "BF16",
    ]
    assert sorted(lib.InfiniDtypeNames) == list(range(20))


def test_devices_map_both_ways():
    types_ = "cpu cuda mlu npu cuda musa cuda cuda cuda cuda".split()
    assert [lib.torch_device_map[number] for number in range(10)] == types_
    assert lib.infini_device_map == {"cpu": 0, "cuda": 1, "mlu": 2, "npu": 3, "musa": 5}
    assert sorted(lib.InfiniDeviceNames) == list(range(10))


def test_structures():
    assert lib.TensorDescriptor._fields_ == []
    for structure in (lib.Handle, lib.OpDescriptor):
        assert structure._fields_ == [("device", ctypes.c_int), ("device_id", ctypes.c_int)]
    assert lib.infiniopHandle_t._type_ is lib.Handle
    assert lib.infiniopOperatorDescriptor_t._type_ is lib.OpDescriptor
    assert lib.infiniopTensorDescriptor_t._type_ is lib.TensorDescriptor


# ---- the libraries -----------------------------------------------------------------------------------------


def test_library_looks_in_the_operators_first():
    librt = types.SimpleNamespace(infinirtSetDevice=1, both=1)
    libop = types.SimpleNamespace(infiniopAdd=2, both=2)
    merged = lib.InfiniLib(librt, libop)
    assert (merged.librt, merged.libop) == (librt, libop)
    assert (merged.infinirtSetDevice, merged.infiniopAdd, merged.both) == (1, 2, 2)
    with pytest.raises(AttributeError, match="Attribute nosuch not found in library"):
        _ = merged.nosuch


def test_one_library_whose_functions_keep_their_types():
    library = lib.LIBINFINIOP
    assert library is liboperators.LIBINFINIOP
    assert isinstance(library.librt, ctypes.CDLL) and isinstance(library.libop, ctypes.CDLL)
    assert library.infiniopAdd is library.infiniopAdd
    assert len(library.infiniopAdd.argtypes) == 7
    with pytest.raises(AttributeError, match="Attribute nosuch not found in library"):
        _ = library.nosuch


def test_registration():
    """A registration is called with each library that is opened, and comes back from the decorator."""
    seen = []
    register = types.new_class("Register", (lib.OpRegister,))
    register.registry = []

    @register.operator
    def example_(library):
        seen.append(library)

    assert example_.__name__ == "example_" and seen == []
    register.register_lib("library")
    assert seen == ["library"]
    assert len(lib.OpRegister.registry) == len(OPERATORS) >= 40
    assert {f.__name__ for f in lib.OpRegister.registry} == {f"{name}_" for name in OPERATORS}


def test_every_operator_is_in_the_library():
    missing = [
        function
        for name in OPERATORS
        for prototype in c_prototypes(name)
        if not hasattr(lib.LIBINFINIOP, function := prototype.split("(")[0].split()[-1])
    ]
    assert missing == []


def test_types_come_from_the_prototype():
    function = types.SimpleNamespace()
    prototype = (
        "infiniStatus_t f(infiniopGemmDescriptor_t desc, infiniopGemmDescriptor_t *desc_ptr, size_t *size, "
        "const void *a, infiniopTensorDescriptor_t t, const infiniopTensorDescriptor_t *ts, const size_t n, "
        "float x, bool b, infiniopRoPEAlgo_t algo, int64_t i);"
    )
    op_register.bind(types.SimpleNamespace(f=function), prototype)
    operator, tensor = lib.infiniopOperatorDescriptor_t, lib.infiniopTensorDescriptor_t
    assert function.restype is ctypes.c_int
    assert function.argtypes == [
        operator,
        ctypes.POINTER(operator),
        ctypes.POINTER(ctypes.c_uint64),
        ctypes.c_void_p,
        tensor,
        ctypes.POINTER(tensor),
        ctypes.c_size_t,
        ctypes.c_float,
        ctypes.c_bool,
        ctypes.c_int,
        ctypes.c_int64,
    ]
    op_register.bind(types.SimpleNamespace(), prototype)  # a library that lacks it


def test_missing_library(monkeypatch, tmp_path):
    monkeypatch.setenv("INFINI_ROOT", str(tmp_path))
    message = r"Cannot find infiniop.dll or libinfiniop.so. Check if INFINI_ROOT is set correctly\."
    with pytest.raises(AssertionError, match=message):
        lib.open_lib()


def test_where_libraries_are_looked_for(monkeypatch, tmp_path):
    """INFINI_ROOT, else ~/.infini where something is installed, else the wheel."""
    wheel = infinicore.__path__[0] + "/lib"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("INFINI_ROOT", raising=False)
    assert str(liboperators.library_folder()) == wheel
    home = tmp_path / ".infini" / "lib"
    home.mkdir(parents=True)
    assert str(liboperators.library_folder()) == wheel
    (home / "libinfiniop.so").touch()
    assert liboperators.library_folder() == home
    monkeypatch.setenv("INFINI_ROOT", str(tmp_path / "other"))
    assert liboperators.library_folder() == tmp_path / "other" / "lib"


# ---- C functions -------------------------------------------------------------------------------------------


def test_handle_carries_the_current_device(handle):
    assert (handle.contents.device, handle.contents.device_id) == (CPU, 0)


def test_devices_that_are_not_there():
    assert lib.LIBINFINIOP.infinirtSetDevice(CPU, 0) == 0
    for absent in (99, lib.InfiniDeviceEnum.ALI):
        assert lib.LIBINFINIOP.infinirtSetDevice(absent, 0) == 5


def test_tensor_descriptors():
    def create(ndim, shape, strides, dtype):
        descriptor = lib.infiniopTensorDescriptor_t()
        c_shape = (ctypes.c_size_t * ndim)(*shape)
        c_strides = None if strides is None else (ctypes.c_ssize_t * ndim)(*strides)
        create = lib.LIBINFINIOP.infiniopCreateTensorDescriptor
        status = create(ctypes.byref(descriptor), ndim, c_shape, c_strides, dtype)
        if status == 0:
            assert lib.LIBINFINIOP.infiniopDestroyTensorDescriptor(descriptor) == 0
        return status

    assert create(2, (2, 3), None, F32) == 0
    assert create(2, (2, 3), (1, 2), F32) == 0
    assert create(0, (), None, F32) == 0
    assert create(1, (1,), None, 99) != 0


def test_check_error_names_the_status():
    lib.check_error(0)
    with pytest.raises(infinicore.Error, match=r"Error code 11 \(BAD_TENSOR_SHAPE\)"):
        lib.check_error(11)
    with pytest.raises(infinicore.Error, match=r"Error code 999 \(unknown\)"):
        lib.check_error(999)


def test_check_error_repeats_what_the_library_said(handle):
    wrong = [lib.CTensor(F32, shape, None) for shape in ((2, 2), (2, 3), (4, 2))]
    descriptor = lib.infiniopOperatorDescriptor_t()
    create = lib.LIBINFINIOP.infiniopCreateGemmDescriptor
    with pytest.raises(infinicore.Error, match=r"Error code 11 \(BAD_TENSOR_SHAPE\): .*gemm"):
        lib.check_error(create(handle, ctypes.byref(descriptor), *(tensor.descriptor for tensor in wrong)))


# ---- tensors -----------------------------------------------------------------------------------------------


def test_tensor_members():
    tensor = lib.TestTensor((2, 3, 4), None, F32, CPU)
    assert isinstance(tensor, lib.CTensor)
    assert (tensor.dt, tensor.device, tensor.shape, tensor.strides) == (F32, CPU, [2, 3, 4], [12, 4, 1])
    assert tensor.descriptor and tensor.ndim == 3
    assert list(tensor.c_shape) == [2, 3, 4] and list(tensor.c_strides) == [12, 4, 1]
    assert tensor._torch_tensor is tensor.torch_tensor() and tensor._data_tensor is tensor.actual_tensor()
    assert tensor.data() == tensor.actual_tensor().data_ptr()
    assert tensor.torch_tensor().min() >= 0 and tensor.torch_tensor().max() < 1


def test_descriptor_is_destroyed_once():
    tensor = lib.CTensor(F32, (2,), None)
    tensor.destroy_desc()
    assert tensor.descriptor is None
    tensor.destroy_desc()


@pytest.mark.parametrize("name", "BOOL BYTE I8 I16 I32 I64 U8 U16 U32 U64 F8 F16 F32 F64 BF16".split())
@pytest.mark.parametrize("mode", ["random", "zeros", "ones", "randint"])
def test_modes(name, mode):
    dtype = getattr(lib.InfiniDtype, name)
    tensor = lib.TestTensor((50, 2), None, dtype, CPU, mode=mode, randint_low=0, randint_high=100)
    assert tensor.torch_tensor().dtype == lib.to_torch_dtype(dtype)
    values = tensor.torch_tensor().double()
    if mode in ("zeros", "ones"):
        assert (values == (mode == "ones")).all()
    else:
        assert values.min() >= 0 and values.max() <= 100 and len(values.unique()) > 1


def test_integers_have_their_range(torch):
    torch.manual_seed(0)
    values = lib.TestTensor((1000,), None, lib.InfiniDtype.I32, CPU).torch_tensor()
    assert values.min() < -1_000_000_000 and values.max() > 1_000_000_000
    assert values.abs().max() <= 2_000_000_000
    small = lib.TestTensor((1000,), None, lib.InfiniDtype.I8, CPU).torch_tensor()
    assert (int(small.min()), int(small.max())) == (-128, 127)
    bounded = lib.TestTensor((99,), None, lib.InfiniDtype.I64, CPU, randint_low=3, randint_high=5)
    assert set(bounded.torch_tensor().tolist()) == {3, 4}


def test_other_modes(torch):
    assert lib.TestTensor((3,), None, lib.InfiniDtype.F8, CPU, mode="float8_e4m3fn").torch_tensor().dtype == (
        torch.float8_e4m3fn
    )
    scaled = lib.TestTensor((2,), None, F32, CPU, mode="ones", scale=2, bias=1)
    assert scaled.torch_tensor().tolist() == [3, 3]
    with pytest.raises(ValueError, match="Unsupported mode"):
        lib.TestTensor((2,), None, F32, CPU, mode="nonsense")


def test_given_values(torch):
    given = torch.arange(6.0).view(2, 3)
    manual = lib.TestTensor((2, 3), (3, 1), F32, CPU, mode="manual", set_tensor=given)
    assert manual.actual_tensor().tolist() == given.tolist()
    with pytest.raises(AssertionError, match="shape"):
        lib.TestTensor((3, 2), None, F32, CPU, mode="manual", set_tensor=given)
    with pytest.raises(AssertionError, match="strides"):
        lib.TestTensor((2, 3), (1, 2), F32, CPU, mode="manual", set_tensor=given)
    with pytest.raises(AssertionError, match="set_tensor"):
        lib.TestTensor((2, 3), None, F32, CPU, mode="binary")
    binary = lib.TestTensor((2, 3), (1, 2), F32, CPU, mode="binary", set_tensor=given)
    assert binary.actual_tensor().stride() == (1, 2) and binary.actual_tensor().tolist() == given.tolist()


@pytest.mark.parametrize(
    ("dtype", "numpy"), [(F32, np.float32), (lib.InfiniDtype.U32, np.uint32), (BF16, None)]
)
def test_from_binary(tmp_path, dtype, numpy):
    values = np.arange(6).reshape(2, 3).astype(numpy or lib.to_numpy_dtype(BF16))
    values.tofile(tmp_path / "values.bin")
    tensor = lib.TestTensor.from_binary(str(tmp_path / "values.bin"), (2, 3), (4, 1), dtype, CPU)
    assert tensor.actual_tensor().tolist() == values.tolist()
    assert tensor.actual_tensor().stride() == (4, 1)


def test_from_torch(torch):
    source = torch.arange(12.0).view(3, 4).t()
    tensor = lib.TestTensor.from_torch(source, F32, CPU)
    assert (tensor.shape, tensor.strides) == ([4, 3], [1, 4])
    assert torch.equal(tensor.actual_tensor(), source) and tensor.actual_tensor().stride() == (1, 4)
    repeated = lib.TestTensor.from_torch(torch.tensor([1.0, 2.0]).expand(3, 2), F32, CPU)
    assert repeated.is_broadcast() and repeated.torch_tensor().tolist() == [[1, 2]]


def test_strides(torch):
    tensor = lib.TestTensor((4, 5), (10, 1), F32, CPU, mode="ones")
    storage = tensor.actual_tensor().as_strided((35,), (1,))
    assert tensor.actual_tensor().stride() == (10, 1)
    assert storage.nonzero().flatten().tolist() == [10 * i + j for i in range(4) for j in range(5)]
    repeated = lib.TestTensor((3, 4), (1, 0), F32, CPU)
    assert repeated.is_broadcast() and repeated.torch_tensor().shape == (3, 1)
    assert not lib.TestTensor((3, 4), (4, 1), F32, CPU).is_broadcast()
    with pytest.raises(ValueError, match="Negative strides are not supported yet"):
        lib.rearrange_tensor(torch.ones(3), (-1,))


def test_updated_result(torch):
    tensor = lib.TestTensor((2,), None, F32, CPU)
    new = torch.zeros(2)
    tensor.update_torch_tensor(new)
    assert tensor.torch_tensor() is new


def test_tensor_keeps_its_memory_and_workspace_gives_it_back(torch):
    tensor = lib.TestTensor((2,), None, F32, CPU, mode="ones")
    address = tensor.data()
    gc.collect()
    assert ctypes.c_float.from_address(address).value == 1
    workspace = lib.TestWorkspace(16, CPU)
    assert workspace.size().value == 16 and workspace.tensor.torch_tensor().tolist() == [1] * 16
    assert workspace.data() == workspace.tensor.data()
    gone = weakref.ref(workspace.tensor)
    del workspace
    gc.collect()
    assert gone() is None
    empty = lib.TestWorkspace(0, CPU)
    assert empty.data() is None and empty.size().value == 0


def test_dtypes_of_torch_and_numpy(torch):
    assert lib.to_torch_dtype(BF16) is torch.bfloat16
    assert lib.to_torch_dtype(lib.InfiniDtype.U32) is torch.uint32
    assert lib.to_torch_dtype(lib.InfiniDtype.U32, compatability_mode=True) is torch.int32
    assert lib.to_torch_dtype(lib.InfiniDtype.BYTE) is torch.uint8
    assert lib.to_numpy_dtype(BF16, compatability_mode=True) == np.float32
    assert lib.to_numpy_dtype(BF16).itemsize == 2
    assert lib.to_numpy_dtype(lib.InfiniDtype.U64) == np.uint64
    for translate in (lib.to_torch_dtype, lib.to_numpy_dtype):
        with pytest.raises(ValueError, match="Unsupported data type: C64"):
            translate(lib.InfiniDtype.C64)


# ---- comparison --------------------------------------------------------------------------------------------


def test_debug_reports_and_raises(torch, capsys):
    lib.debug(torch.ones(2), torch.ones(2))
    got, want = (
        torch.tensor([[1.0, 2.5]], dtype=torch.bfloat16),
        torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16),
    )
    with pytest.raises(AssertionError):
        lib.debug(got, want, atol=0, rtol=1e-2)
    text = capsys.readouterr().out
    for part in (
        "(0, 1)",
        "2.5",
        "delta: 0.5",
        "torch.float32",
        "Rtol:           0.01",
        "1 / 2 (50 %)",
        "max 2.5",
    ):
        assert part in text
    assert "\033" not in text  # colours are for terminals
    assert lib.print_discrepancy(got, want, verbose=False) == [(0, 1)]
    assert capsys.readouterr().out == ""
    integers = torch.tensor([1, 2], dtype=torch.int32)
    lib.debug(integers, integers.clone())


def test_colours_on_a_terminal(monkeypatch, torch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    lib.print_discrepancy(torch.ones(1), torch.zeros(1))
    text = capsys.readouterr().out
    assert all(f"\033[{colour}m" in text for colour in (31, 32, 33, 0))


def test_debug_all(torch):
    one, two = torch.ones(1), torch.full((1,), 2.0)
    lib.debug_all([one, two], [one, one], "or", verbose=False)
    lib.debug_all([one, one], [one, one], "and", verbose=False)
    with pytest.raises(AssertionError, match="condition 'and' is not met"):
        lib.debug_all([one, two], [one, one], "and", verbose=False)
    with pytest.raises(AssertionError, match="or"):
        lib.debug_all([one], [one], "xor")


def test_tolerance():
    table = {F16: {"atol": 1, "rtol": 2}}
    assert lib.get_tolerance(table, F16) == (1, 2)
    assert lib.get_tolerance(table, F32) == (0, 1e-3)


# ---- the loop of a script ----------------------------------------------------------------------------------


def test_loop_destroys_the_handle(monkeypatch):
    seen, destroyed = [], []
    monkeypatch.setattr(
        utils, "destroy_handle", lambda handle: destroyed.append(handle) or lib.destroy_handle(handle)
    )
    lib.test_operator(CPU, lambda *arguments: seen.append(arguments[1:]), [(1, 2), (3, 4)], [F16, F32])
    assert seen == [(CPU, *case, dtype, None) for case in ((1, 2), (3, 4)) for dtype in (F16, F32)]
    with pytest.raises(ZeroDivisionError):
        lib.test_operator(CPU, lambda *arguments: 1 / 0, [()], [F32])
    assert len(destroyed) == 2


def test_dtypes_of_a_device(torch):
    both = [torch.float16, torch.bfloat16]
    assert lib.filter_tensor_dtypes_by_device(CPU, both) == both
    assert lib.filter_tensor_dtypes_by_device(lib.InfiniDeviceEnum.KUNLUN, both) == [torch.float16]


def test_flags(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script"])
    args = lib.get_args()
    assert (args.profile, args.debug, args.num_prerun, args.num_iterations) == (False, False, 10, 1000)
    assert lib.get_test_devices(args) == [CPU]
    monkeypatch.setattr(
        sys, "argv", "script --nvidia --cpu --qy --num_prerun -3 --num_iterations 7 --debug".split()
    )
    args = lib.get_args()
    assert (args.num_prerun, args.num_iterations, args.debug) == (0, 7, True)
    assert lib.get_test_devices(args) == [CPU, NVIDIA, lib.InfiniDeviceEnum.QY]


def test_flags_that_need_an_extension_of_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_musa", types.ModuleType("torch_musa"))
    monkeypatch.setattr(sys, "argv", ["script", "--moore"])
    assert lib.get_test_devices(lib.get_args()) == [lib.InfiniDeviceEnum.MOORE]
    monkeypatch.setitem(sys.modules, "torch_mlu", None)  # not installed
    monkeypatch.setattr(sys, "argv", ["script", "--cambricon"])
    with pytest.raises(ImportError):
        lib.get_test_devices(lib.get_args())


def test_ascend_is_made_ready(monkeypatch, torch):
    chosen = []
    monkeypatch.setitem(sys.modules, "torch_npu", types.ModuleType("torch_npu"))
    monkeypatch.setattr(torch, "npu", types.SimpleNamespace(set_device=chosen.append), raising=False)
    monkeypatch.setattr(sys, "argv", ["script", "--ascend"])
    assert lib.get_test_devices(lib.get_args()) == [lib.InfiniDeviceEnum.ASCEND]
    assert chosen == [0]


def test_waiting_for_devices(monkeypatch, torch):
    called = []
    for name in ("cuda", "npu", "mlu", "musa"):
        fake = types.SimpleNamespace(synchronize=lambda name=name: called.append(name))
        monkeypatch.setattr(torch, name, fake, raising=False)
        lib.synchronize_device(name)
    assert called == ["cuda", "npu", "mlu", "musa"]
    lib.synchronize_device("cpu")
    lib.synchronize_device(CPU)
    assert len(called) == 4
    assert lib.get_sync_func(CPU) is None and lib.get_sync_func(lib.InfiniDeviceEnum.CAMBRICON) is None
    lib.get_sync_func(lib.InfiniDeviceEnum.METAX)()
    assert called[-1] == "cuda" and len(called) == 5


def test_timing(capsys):
    calls = []
    assert lib.timed_op(lambda: calls.append(1), 5, "cpu") >= 0 and len(calls) == 5
    lib.profile_operation("Matmul", lambda: calls.append(1), CPU, 2, 3)
    assert len(calls) == 10
    text = capsys.readouterr().out
    assert text.startswith(" Matmul time: ") and text.endswith(" ms\n")
    float(text.split()[2])


# ---- operators ---------------------------------------------------------------------------------------------


def gemm(handle, c, a, b, alpha=1.0, beta=0.0, stream=None):
    descriptor, size = lib.infiniopOperatorDescriptor_t(), ctypes.c_uint64()
    create = lib.LIBINFINIOP.infiniopCreateGemmDescriptor
    lib.check_error(create(handle, ctypes.byref(descriptor), c.descriptor, a.descriptor, b.descriptor))
    assert (descriptor.contents.device, descriptor.contents.device_id) == (CPU, 0)
    lib.check_error(lib.LIBINFINIOP.infiniopGetGemmWorkspaceSize(descriptor, ctypes.byref(size)))
    workspace = lib.TestWorkspace(size.value, CPU)
    call = lib.LIBINFINIOP.infiniopGemm
    addresses = c.data(), a.data(), b.data()
    arguments = (
        descriptor,
        workspace.data(),
        workspace.size(),
        *addresses,
        alpha,
        ctypes.c_float(beta),
        stream,
    )
    lib.check_error(call(*arguments))
    lib.check_error(lib.LIBINFINIOP.infiniopDestroyGemmDescriptor(descriptor))


def test_order_of_gemm(handle):
    """Create takes c, a, b: another order does not fit."""
    a, b, c = (lib.CTensor(F32, shape, None) for shape in ((128, 256), (256, 512), (128, 512)))
    descriptor = lib.infiniopOperatorDescriptor_t()
    create = lib.LIBINFINIOP.infiniopCreateGemmDescriptor
    assert create(handle, ctypes.byref(descriptor), a.descriptor, b.descriptor, c.descriptor) == 11
    assert create(handle, ctypes.byref(descriptor), c.descriptor, a.descriptor, b.descriptor) == 0
    assert lib.LIBINFINIOP.infiniopDestroyGemmDescriptor(descriptor) == 0


def test_gemm_with_a_stream(handle, torch):
    a, b = (lib.TestTensor(shape, None, F32, CPU) for shape in ((5, 7), (7, 3)))
    c = lib.TestTensor((5, 3), None, F32, CPU, mode="ones")
    stream = ctypes.c_void_p()
    lib.check_error(lib.LIBINFINIOP.infinirtStreamCreate(ctypes.byref(stream)))
    gemm(handle, c, a, b, 2.0, 0.5, stream)
    lib.check_error(lib.LIBINFINIOP.infinirtStreamSynchronize(stream))
    lib.check_error(lib.LIBINFINIOP.infinirtStreamDestroy(stream))
    want = 2 * a.torch_tensor() @ b.torch_tensor() + 0.5
    assert torch.allclose(c.actual_tensor(), want, rtol=1e-5)


def test_no_leak(handle):
    """Descriptors, workspaces and tensors that were given back leave no memory behind."""
    a, b, c = (lib.TestTensor((4, 4), None, F32, CPU) for _ in range(3))

    def pages():
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1])

    def work():
        for _ in range(1000):
            gemm(handle, c, a, b)
            lib.TestTensor((4, 4), None, F32, CPU, mode="zeros").destroy_desc()

    work()
    before = pages()
    for _ in range(4):
        work()
    assert pages() - before < 100  # 400 KiB; a leak of 100 bytes each time would be as much


def test_threads(torch):
    """Threads with a handle each do not disturb each other."""
    wrong = []

    def work(seed):
        try:
            lib.check_error(lib.LIBINFINIOP.infinirtSetDevice(CPU, 0))
            handle = lib.create_handle()
            for size in range(3, 23):
                a, b = (lib.TestTensor((size, size), None, F32, CPU) for _ in range(2))
                c = lib.TestTensor((size, size), None, F32, CPU, mode="zeros")
                gemm(handle, c, a, b)
                if not torch.allclose(c.actual_tensor(), a.torch_tensor() @ b.torch_tensor(), rtol=1e-4):
                    wrong.append((seed, size))
            lib.destroy_handle(handle)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_workspace_that_is_too_small(handle):
    logits = lib.TestTensor((40000,), None, F16, CPU)
    result = lib.TestTensor((), None, lib.InfiniDtype.I32, CPU, mode="zeros")
    descriptor, size = lib.infiniopOperatorDescriptor_t(), ctypes.c_uint64()
    library = lib.LIBINFINIOP
    create = library.infiniopCreateRandomSampleDescriptor
    lib.check_error(create(handle, ctypes.byref(descriptor), result.descriptor, logits.descriptor))
    lib.check_error(library.infiniopGetRandomSampleWorkspaceSize(descriptor, ctypes.byref(size)))
    arguments = (result.data(), logits.data(), 0.5, 0.8, 50, 1.0, None)
    if size.value:
        small = lib.TestWorkspace(size.value - 1, CPU)
        assert library.infiniopRandomSample(descriptor, small.data(), small.size(), *arguments) == 13
    enough = lib.TestWorkspace(size.value, CPU)
    assert library.infiniopRandomSample(descriptor, enough.data(), enough.size(), *arguments) == 0
    lib.check_error(library.infiniopDestroyRandomSampleDescriptor(descriptor))
