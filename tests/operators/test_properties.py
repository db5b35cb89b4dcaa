# Every operator against its float64 reference and, where PyTorch has it too, the reference against PyTorch.
# Calls are drawn from the operators' own signatures: a new operator needs no line of test code here.
"""Property tests of all operators."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import infinicore as ic
from infinicore.schema import OPERATORS
from infinicore.testing.conformance import WITNESSES, agree, check, reference, witness
from infinicore.testing.strategies import DrawnCall, DrawnTensor, calls

NAMES = sorted(OPERATORS)
# Element types that arithmetic may lack on a device. What only moves data has no such excuse.
EXOTIC = {"byte", "bool", "f8", "c16", "c32", "c64", "c128"}
MOVING = {"cast", "cat", "embedding", "ones", "rearrange", "zeros"}
INSTRUCTION_SETS = ("generic", "x86_64_v3", "x86_64_v4")


def dtypes_of(call: DrawnCall) -> set[str]:
    found = set()
    for value in call.slots:
        parts = value if isinstance(value, tuple) else (value,)
        found |= {part.dtype for part in parts if isinstance(part, DrawnTensor)}
    return found


def check_or_excuse(call: DrawnCall, device: ic.device) -> None:
    """Check a call; a device may lack it only where one of its dtypes is exotic."""
    try:
        check(call, device)
    except ic.OperatorNotSupported:
        if call.schema.name in MOVING or not dtypes_of(call) & EXOTIC:
            raise
        event(f"not supported with {', '.join(sorted(dtypes_of(call) & EXOTIC))}")


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_result_is_the_reference(name: str, device: ic.device, data: st.DataObject) -> None:
    check_or_excuse(data.draw(calls(OPERATORS[name])), device)


@pytest.mark.torch
@pytest.mark.parametrize("name", sorted(WITNESSES))
@given(data=st.data())
def test_reference_is_torch(name: str, torch, data: st.DataObject) -> None:
    call = data.draw(calls(OPERATORS[name]))
    theirs = witness(call, torch)
    if theirs is None:
        event("PyTorch has no such dtype")
        return
    for parameter, want, got in zip(call.schema.outputs, theirs, reference(call), strict=True):
        assert got.shape == want.shape
        assert agree(got, want), f"{parameter.name} of {call}: reference {got}, PyTorch {want}"


# Normalisations of no elements, maxima of none and the like have no value.
SIZED = [name for name in NAMES if OPERATORS[name].draw is None]


@pytest.mark.parametrize("size", [0, 1, 127])
@pytest.mark.parametrize("name", SIZED)
@settings(max_examples=5)
@given(data=st.data())
def test_edge_sizes(name: str, size: int, device: ic.device, data: st.DataObject) -> None:
    dimensions = st.sampled_from([size, 1] if size > 1 else [size])
    check_or_excuse(data.draw(calls(OPERATORS[name], dimensions=dimensions)), device)


def test_more_elements_than_32_bits_count() -> None:
    """2**31 + 5 elements that share one: the count, not the memory, is what is large."""
    one = ic.full((1,), 3, dtype=ic.int64, device="cpu")
    assert ic.sum(one.expand((2**31 + 5,))).item() == 3 * (2**31 + 5)


ELEMENTWISE = [
    "abs",
    "add",
    "div",
    "equal",
    "greater",
    "less",
    "mul",
    "neg",
    "not_equal",
    "silu",
    "sub",
    "swiglu",
]


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("name", [*ELEMENTWISE, "argmax", "cat", "embedding", "rearrange"])
@settings(max_examples=8)
@given(data=st.data())
def test_nan_and_infinity(name: str, dtype: str, device: ic.device, data: st.DataObject) -> None:
    variables = dict.fromkeys("FTNR", dtype)
    check(data.draw(calls(OPERATORS[name], dtypes=variables, special=True)), device)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", ["causal_softmax", "rms_norm", "softmax", "sum"])
def test_nan_stays_in_its_row(name: str, dtype: str, device: ic.device) -> None:
    values = np.linspace(-1, 1, 5 * 37).reshape(5, 37)
    values[2, 11] = np.nan
    # A causal row sees the columns up to its own diagonal: here all of column 11.
    x = ic.from_numpy(values).to(getattr(ic, dtype)).to(device)
    weight = ic.ones((37,), dtype=getattr(ic, dtype), device=device)
    arguments = {"rms_norm": (x, weight), "softmax": (x, -1), "sum": (x, 1)}.get(name, (x,))
    result = getattr(ic, name)(*arguments).to(ic.float64).numpy().reshape(5, -1)
    assert np.isnan(result[2]).any()
    assert np.isfinite(np.delete(result, 2, axis=0)).all()


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_every_instruction_set(isa: str) -> None:
    """The kernels for lesser processors are right too: this file again, in a process of its own."""
    probe = "import infinicore as ic; ic.empty((1,), dtype=ic.float32, device='cpu'); print('usable')"
    environment = {**os.environ, "INFINICORE_CPU_ISA": isa}
    usable = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True)
    if usable.returncode:
        assert isa in usable.stderr, usable.stderr
        pytest.skip(usable.stderr.strip().splitlines()[-1])
    selected = "test_result_is_the_reference and cpu"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", selected, __file__]
    profile = {"HYPOTHESIS_PROFILE": "thorough" if os.environ.get("INFINICORE_TEST_THOROUGH") else "smoke"}
    run = subprocess.run(command, env={**environment, **profile}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-1000:]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("size", [1, 5, 64, 129])
def test_what_is_multiplied_by_zero_is_not_read(dtype: str, size: int, device: ic.device) -> None:
    """With beta=0 the old content of c does not matter, NaN or not."""
    a = ic.ones((size, size), dtype=getattr(ic, dtype), device=device)
    c = ic.full((size, size), float("nan"), dtype=getattr(ic, dtype), device=device)
    ic.gemm(c, a, a, alpha=1.0, beta=0.0)
    assert c.to("cpu").tolist() == [[float(size)] * size] * size
