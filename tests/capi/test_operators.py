# Every operator through libinfiniop: its results against the float64 reference, and its refusals against
# those of the Python checks from which they were made.
"""libinfiniop computes what Python computes, and refuses what Python refuses."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import infinicore as ic
from infinicore import errors
from infinicore.capi.checks import STATUS, Compiler
from infinicore.schema import OPERATORS, Spec
from infinicore.testing import sim
from infinicore.testing.conformance import PlacedTensor, judge, place
from infinicore.testing.elements import decode, itemsize
from infinicore.testing.strategies import calls, spec

from .clibrary import (
    CError,
    Handle,
    Operation,
    adapt,
    address_of,
    check,
    form_of,
    layout_of,
    operators,
    runtime,
)

NAMES = sorted(OPERATORS)


@pytest.fixture(scope="module")
def handles():
    sim.enable()
    return {name: Handle(name) for name in ("cpu", "sim")}


def run(call: Any, handle: Handle, device: ic.device) -> None:
    """Run a drawn call through C and judge everything it did."""
    schema = call.schema
    check(runtime.infinirtSetDevice(ic.backends[device.type].number, device.index))
    placed = place(call, lambda drawn: PlacedTensor(drawn, device))
    ic.synchronize(device)
    given = [call.slots[call.alias.get(i, i)] for i in range(len(call.slots))]
    operation = Operation(handle, schema.name, [layout_of(d) for d in given], call.resolved().values)
    try:
        back = operation([address_of(item) for item in placed])
    finally:
        operation.destroy()
    got = {}
    for p in schema.outputs:
        if schema.count is None:
            got[p.index] = placed[p.index].values()
    if schema.count is not None:  # the function allocated, and says how much
        (p,) = schema.outputs
        memory, count = back
        dtype = call.slots[p.index].dtype
        host = np.empty(count.value, f"V{itemsize(dtype)}")
        copied = runtime.infinirtMemcpy(
            ctypes.c_void_p(host.ctypes.data), memory, ctypes.c_size_t(host.nbytes), ctypes.c_int(2)
        )
        check(copied)
        check(runtime.infinirtFree(memory))
        got[p.index] = decode(host, dtype)
    problems = judge(call, placed, got)
    assert not problems, f"{call} on {device}:\n  " + "\n  ".join(problems)


@pytest.mark.parametrize("name", NAMES)
def test_results(name: str, handles: dict[str, Handle]) -> None:
    @settings(max_examples=2, deadline=None)
    @given(calls(OPERATORS[name]))
    def try_one(drawn: Any) -> None:
        call = adapt(drawn)
        try:
            call.resolved()
        except errors.Error:  # the default of a value that C does not pass does not fit what was drawn
            assume(False)
        try:
            run(call, handles["cpu"], ic.device("cpu:0"))
        except CError as error:
            # Where Python has no kernel, either, its NumPy body runs instead; C has no such thing. And
            # elements that the drawn value of a scalar makes legal need not be so with its default.
            assume(error.status not in (2, 10, 105))
            raise

    try_one()


@pytest.mark.parametrize("name", ["add", "gemm", "rms_norm", "sum", "topk", "masked_select", "cat", "conv"])
def test_results_on_a_device_of_its_own_memory(name: str, handles: dict[str, Handle]) -> None:
    @settings(max_examples=2, deadline=None)
    @given(calls(OPERATORS[name], dtypes={"F": "f32", "N": "f32", "T": "f32", "R": "f32"}))
    def try_one(drawn: Any) -> None:
        run(adapt(drawn), handles["sim"], ic.device("sim:0"))

    try_one()


def test_every_operator_has_a_kernel_to_call() -> None:
    """The tests above let calls go that no kernel takes; they must not let all of an operator's go."""
    found = ic.backends["cpu"].operators
    assert set(NAMES) <= set(found["native"]), found["reference"]


# ---- refusals ----------------------------------------------------------------------------------------------


def test_every_check_of_a_signature_has_its_program() -> None:
    compiler = Compiler()
    for schema in OPERATORS.values():
        enums = {p.name: p.enum for p in schema.parameters if p.enum is not None}
        for hook in (schema.canonical, schema.shape, schema.errors, schema.guard):
            if hook is not None:
                compiler.add(hook, enums)  # raises Unsupported where it cannot
    assert len(compiler.programs) > 50


@st.composite
def spoiled(draw: st.DrawFn, name: str) -> tuple[list[Any], list[Any]]:
    """Specs and scalars of a call of which one thing may be wrong."""
    call = adapt(draw(calls(OPERATORS[name])))
    slots = [spec(value) for value in call.slots]
    tensors = [i for i, value in enumerate(slots) if isinstance(value, Spec)]
    at = draw(st.sampled_from(tensors))
    shape, dtype = list(slots[at].shape), slots[at].dtype
    kind = draw(st.sampled_from(("rank", "size", "dtype", "nothing")))
    if kind == "rank":
        shape = shape[1:] if shape and draw(st.booleans()) else [2, *shape]
    elif kind == "size" and shape:
        axis = draw(st.integers(0, len(shape) - 1))
        shape[axis] += draw(st.sampled_from((1, 7)))
    elif kind == "dtype":
        dtype = draw(st.sampled_from(("i8", "i64", "u16", "f16", "f32", "bool", "c64", "f8")))
    slots[at] = Spec(shape, dtype)
    return slots, [None if p.is_tensor else slots[p.index] for p in OPERATORS[name].parameters]


# Their layouts or values are complete at execute only.
EARLY = [n for n in NAMES if not form_of(n).deferred and not any(p.is_size for p in OPERATORS[n].scalars)]


@pytest.mark.parametrize("name", EARLY)
def test_refusals_are_those_of_python(name: str, handles: dict[str, Handle]) -> None:
    schema = OPERATORS[name]
    for_create = {a.slot.index for a in form_of(name).create if a.slot is not None}
    late = [p for p in schema.scalars if p.index not in for_create and p not in form_of(name).defaulted]
    assert schema.errors is None or not {p.name for p in late} & set(schema.errors.__code__.co_varnames)

    @settings(max_examples=3, deadline=None)
    @given(spoiled(name))
    def try_one(drawn: Any) -> None:
        slots, values = drawn
        wanted = 0
        try:
            resolved = schema.resolve(slots)
            values = [v if v is not None else w for v, w in zip(resolved.values, values, strict=True)]
        except errors.Error as error:
            wanted = STATUS[type(error)]
            values = [
                () if p.kind == "ints" and v is None else v
                for p, v in zip(schema.parameters, values, strict=True)
            ]
            values = [(v,) if p.kind == "ints" and isinstance(v, int) else v
                      for p, v in zip(schema.parameters, values, strict=True)]  # fmt: skip
            assume(
                all(v is not None for p, v in zip(schema.parameters, values, strict=True) if not p.is_tensor)
            )
        layouts = [layout(s) for s in slots]
        try:
            Operation(handles["cpu"], name, layouts, values).destroy()
            status = 0
        except CError as error:
            status = error.status
            assert error.message.startswith(f"{name}: ") or status == 2, error
        if wanted == 0:
            assert status in (0, 2, 10, 11, 12), status  # a kernel may refuse what the signature allows
        else:
            assert status == wanted, (slots, values)

    def layout(s: Any) -> Any:
        if isinstance(s, Spec):
            strides, step = [], 1
            for size in reversed(s.shape):
                strides.insert(0, step)
                step *= max(size, 1)
            return s.shape, tuple(strides), s.dtype
        return [layout(item) for item in s] if isinstance(s, tuple) and s and isinstance(s[0], Spec) else None

    try_one()


def message(function: Any) -> tuple[int, str]:
    with pytest.raises(CError) as caught:
        function()
    return caught.value.status, caught.value.message


def test_messages_name_operator_argument_and_both_values(handles: dict[str, Handle]) -> None:
    def create(name: str, *layouts: Any, values: Any = ()) -> Any:
        rest = [None] * (len(OPERATORS[name].parameters) - len(layouts) - len(values))
        return message(lambda: Operation(handles["cpu"], name, [*layouts, *values, *rest],
                                         [*[None] * len(layouts), *values, *rest]))  # fmt: skip

    f32 = [((2, 3), None, "f32"), ((3, 4), None, "f32")]
    assert create("gemm", ((2, 5), None, "f32"), *f32) == (11, "gemm: c has n=5, but b has n=4") or create(
        "gemm", ((2, 5), None, "f32"), *f32
    ) == (11, "gemm: b has n=4, but c has n=5")
    assert create("gemm", ((2, 4), None, "f16"), *f32)[0] == 10
    status, text = create("softmax", f32[0], f32[0], values=(5,))
    assert (status, text) == (3, "softmax: axis=5 is out of range for input, which has ndim=2")
    assert (
        create("relu", ((2, 3), (0, 1), "f32"), f32[0])
        == (
            12,
            "relu: out: elements that are written share memory",
        )
        or create("relu", ((2, 3), (0, 1), "f32"), f32[0])[0] == 12
    )


def test_life_of_a_descriptor(handles: dict[str, Handle]) -> None:
    f32 = ((4,), None, "f32")
    operation = Operation(handles["cpu"], "add", [f32, f32, f32], [None] * 3)
    try:
        status, text = message(lambda: operation([0, 0, 0]))
        assert status == 4 and text.startswith("add: ") and text.endswith("is NULL")
        device, index = ctypes.c_int(-1), ctypes.c_int(-1)
        check(operators.infiniopGetDescriptorDeviceType(operation.descriptor, ctypes.byref(device)))
        check(operators.infiniopGetDescriptorDeviceId(operation.descriptor, ctypes.byref(index)))
        assert (device.value, index.value) == (0, 0)
        # A descriptor and a handle begin with both numbers, as structs.py of existing programs has it.
        for pointer in (operation.descriptor, handles["cpu"].value):
            assert (ctypes.c_int * 2).from_address(pointer.value)[:] == [0, 0]
        wrong = operators.infiniopMul(operation.descriptor, None, ctypes.c_size_t(0), *[None] * 4)
        assert (wrong, runtime.infiniGetLastError()) == (3, b"mul: the descriptor is of add")
    finally:
        operation.destroy()


def test_a_workspace_that_is_too_small(handles: dict[str, Handle]) -> None:
    """Status 13, and the bytes on both sides in the message."""
    f32, weight = ((4, 64), None, "f32"), ((64,), None, "f16")  # which the kernel widens in its workspace
    operation = Operation(handles["cpu"], "rms_norm", [f32, f32, weight, None], [None, None, None, 1e-5])
    size = operation.workspace_bytes
    assert size > 0
    status, text = message(lambda: operation([1, 1, 1, None], workspace_bytes=size - 1))
    assert (status, text) == (13, f"rms_norm: workspace_size={size - 1}, but it needs {size}")
    operation.destroy()


def test_a_tensor_descriptor_refuses(handles: dict[str, Handle]) -> None:
    out = ctypes.c_void_p()
    shape = (ctypes.c_size_t * 2)(2, 3)
    create = operators.infiniopCreateTensorDescriptor
    assert create(ctypes.byref(out), ctypes.c_size_t(2), shape, None, 99) == 10
    assert create(ctypes.byref(out), ctypes.c_size_t(2), None, None, 13) == 4
    assert create(None, ctypes.c_size_t(2), shape, None, 13) == 4
    huge = (ctypes.c_size_t * 2)(2**40, 2**40)
    assert create(ctypes.byref(out), ctypes.c_size_t(2), huge, None, 13) == 11
