# The repr of tensors against NumPy's, its options, and debug output.
from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import infinicore as ic
from infinicore.printing import get_printoptions

TAIL = ", dtype=infinicore.{dtype}, device='cpu:0')"


def body(tensor):
    """The repr without its name and tail, in one form whether the tail is on a line of its own or not."""
    text = repr(tensor)
    assert text.startswith("tensor(")
    end = text.rindex("dtype=")
    return text[len("tensor(") : end].rstrip().removesuffix(",")


def numpy_body(array):
    return np.array2string(array, separator=", ", prefix="tensor(", suffix="")


FLOATS = st.one_of(
    st.integers(-20, 20).map(lambda n: n / 4),
    st.floats(width=32),
    st.sampled_from([0.0, -0.0, 1e-5, 1e9, 0.1, 123456.75, float("nan"), float("inf"), -float("inf")]),
)


# Versions of NumPy differ in where the exponent form of large halves begins.
HALVES = st.floats(-999, 999, width=16)


@given(npst.arrays(np.float32, npst.array_shapes(max_dims=3, max_side=4), elements=FLOATS))
def test_floats_like_numpy(array):
    assert body(ic.from_numpy(array)) == numpy_body(array)


@given(npst.arrays(np.float64, npst.array_shapes(max_dims=2, max_side=5), elements=st.floats()))
def test_doubles_like_numpy(array):
    assert body(ic.from_numpy(array)) == numpy_body(array)


@given(npst.arrays(np.float16, npst.array_shapes(max_dims=2, max_side=4), elements=HALVES))
def test_halves_like_numpy(array):
    assert body(ic.from_numpy(array)) == numpy_body(array)


@given(
    npst.arrays(
        st.sampled_from([np.int8, np.int64, np.uint16, np.bool_]), npst.array_shapes(max_dims=3, max_side=30)
    )
)
def test_integers_and_truth_values_like_numpy(array):
    assert body(ic.from_numpy(array)) == numpy_body(array)


@given(
    npst.arrays(
        np.complex64,
        npst.array_shapes(max_dims=2, max_side=3),
        elements=st.builds(complex, st.integers(-9, 9), st.integers(-9, 9)),
    )
)
def test_complex_like_numpy(array):
    assert body(ic.from_numpy(array)) == numpy_body(array)


@pytest.mark.parametrize("shape", [(1001,), (40, 30), (3, 500), (2, 3, 400), (7, 7, 7, 7), (1000, 1, 2)])
def test_summaries_like_numpy(shape):
    array = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    assert body(ic.from_numpy(array)) == numpy_body(array)


def test_the_whole_text():
    tensor = ic.from_list([[0, 1, 2], [3, 4, 5]], dtype=ic.float32)
    assert repr(tensor) == (
        "tensor([[0., 1., 2.],\n        [3., 4., 5.]], dtype=infinicore.float32, device='cpu:0')"
    )
    assert repr(tensor[0, 1]) == "tensor(1., dtype=infinicore.float32, device='cpu:0')"
    assert repr(tensor[:0]) == "tensor([], shape=[0, 3], dtype=infinicore.float32, device='cpu:0')"
    assert repr(tensor[0, :0]) == "tensor([], dtype=infinicore.float32, device='cpu:0')"
    assert (
        repr(tensor.to(ic.bfloat16)[1]) == "tensor([3., 4., 5.], dtype=infinicore.bfloat16, device='cpu:0')"
    )
    long = repr(ic.arange(15, dtype=ic.int64, device="cpu"))
    assert long.endswith(",\n       dtype=infinicore.int64, device='cpu:0')")


def test_small_floats_use_their_own_digits():
    """0.1 is 0.10009765625 in bfloat16; one digit tells it from its neighbours."""
    assert body(ic.from_list([0.1], dtype=ic.bfloat16)) == "[0.1]"
    assert body(ic.from_list([0.1], dtype=ic.float8)) == "[0.1]"
    assert body(ic.from_list([1 / 3], dtype=ic.float16)) == "[0.3333]"


def test_options():
    third = ic.from_list([1 / 3, 2 / 3], dtype=ic.float64)
    with ic.printoptions(precision=3):
        assert body(third) == "[0.333, 0.667]"
        with ic.printoptions(linewidth=10):
            assert body(third) == "[0.333,\n        0.667]"
        with ic.printoptions(threshold=1, edgeitems=1):
            assert body(ic.arange(9, dtype=ic.int8, device="cpu")) == "[0, ..., 8]"
    assert body(third) == "[0.33333333, 0.66666667]"
    assert body(ic.from_list([1e-5, 1], dtype=ic.float64)) == "[1.e-05, 1.e+00]"
    with ic.printoptions(suppress=True):
        assert body(ic.from_list([1e-5, 1], dtype=ic.float64)) == "[0.00001, 1.     ]"


def test_global_options():
    before = get_printoptions()
    try:
        ic.set_printoptions(precision=2)
        assert body(ic.from_list([1 / 3], dtype=ic.float64)) == "[0.33]"
        seen = []
        with ic.printoptions(precision=5):
            thread = threading.Thread(target=lambda: seen.append(get_printoptions()["precision"]))
            thread.start()
            thread.join()
        assert seen == [2]  # a with block is its own thread's affair
    finally:
        ic.set_printoptions(**before)
    assert get_printoptions() == before


def test_bad_options():
    with pytest.raises(TypeError, match="no option 'digits'"), ic.printoptions(digits=3):
        pass
    with pytest.raises(ValueError, match="precision: expected a non-negative int, got -1"):
        ic.set_printoptions(precision=-1)


def test_device_tensors_print_too(device):
    tensor = ic.arange(6, dtype=ic.float32, device=device).view(2, 3)
    assert repr(tensor).endswith(f"device='{device}')")
    assert body(tensor) == "[[0., 1., 2.],\n        [3., 4., 5.]]"
    big = ic.zeros((100, 100), dtype=ic.float32, device=device)
    assert body(big).count("...") > 3


def test_debug_of_more_dimensions(capsys):
    ic.arange(8, dtype=ic.int32, device="cpu").view(2, 2, 2).debug()
    assert capsys.readouterr().out.splitlines()[1:] == ["0 1", "2 3", "", "4 5", "6 7"]
    ic.full((), 2.5, dtype=ic.float64, device="cpu").debug()
    assert capsys.readouterr().out.splitlines()[1:] == ["2.5"]
