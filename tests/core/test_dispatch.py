# Dispatch: how a call's arguments become slots, what is cached and for how long, and what is checked before a
# kernel runs. Operators made here have no kernel: their NumPy body shows what arrived.
# ruff: noqa: F722 -- annotations are operator signatures
from __future__ import annotations

import enum
import inspect
import pickle
import pydoc
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import infinicore as ic
from infinicore._dispatch import Operator
from infinicore.schema import DType, In, InOut, Out, Schema, Static, Tensor, TensorList


def tensor(values, dtype=np.float32):
    array = np.array(values, dtype=dtype, order="C")
    if array.size == 0:
        return ic.empty(array.shape, dtype=ic.float32, device="cpu")
    return ic.from_numpy(array)


def counts(call):
    """Hits, misses and evictions that `call` adds."""
    before = ic.cache_info()
    call()
    after = ic.cache_info()
    return tuple(b - a for a, b in zip(before[:3], after[:3], strict=True))


@pytest.fixture
def limit():
    """Set the bound of the cache for one test."""
    before = ic.set_cache_limit(ic.cache_info().limit)
    yield ic.set_cache_limit
    ic.set_cache_limit(before)


# ---- what an operator is -----------------------------------------------------------------------------


def test_operator_describes_itself():
    assert (ic.add.__name__, ic.add.__qualname__, ic.add.__module__) == (
        "add",
        "add",
        "infinicore.ops.elementwise",
    )
    assert str(inspect.signature(ic.add)) == "(input, other, *, out=None)"
    assert str(inspect.signature(ic.matmul)) == "(input, other, *, alpha=1.0, out=None)"
    assert ic.add.__doc__.startswith("Sum of two tensors")
    assert Operator.__doc__.startswith("An operator")
    assert repr(ic.add) == "<operator infinicore.add(input, other, *, out=None)>"
    page = pydoc.render_doc(ic.add, renderer=pydoc.plaintext)
    assert "add(input, other, *, out=None)" in page
    assert "ShapeError" in page
    assert callable(ic.add)


def test_operator_is_pickled_by_name():
    for op in (ic.add, ic.matmul, ic.gemm):
        assert pickle.loads(pickle.dumps(op)) is op


def test_call_forms_agree():
    a, b, out = tensor([1, 2, 3]), tensor([10, 20, 30]), tensor([0, 0, 0])
    want = [11.0, 22.0, 33.0]
    assert ic.add(a, b).tolist() == want
    assert ic.add(input=a, other=b).tolist() == want
    assert ic.add(other=b, input=a).tolist() == want
    # A name that is not interned is another object and still the same name.
    assert ic.add(a, **{"".join(["ot", "her"]): b}).tolist() == want
    assert ic.add.__call__(a, b).tolist() == want
    assert ic.add(a, b, out=out) is out
    assert out.tolist() == want
    assert ic.add(a, b, out=None).tolist() == want


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda a: ic.add(a),
            r"add\(\) missing 1 required argument: 'other'; it is add\(input, other, \*, out=None\)",
        ),
        (lambda a: ic.add(), r"missing 2 required arguments: 'input', 'other'"),
        (lambda a: ic.add(a, a, a), r"add\(\) takes 2 positional arguments but 3 were given"),
        (lambda a: ic.add(a, a, input=a), r"add\(\) got multiple values for argument 'input'"),
        (lambda a: ic.add(a, a, dest=a), r"add\(\) got an unexpected keyword argument 'dest'"),
        (lambda a: ic.add(a, 1.0), r"add: other must be an infinicore.Tensor, not float"),
        (lambda a: ic.add(a, np.ones(3)), r"add: other must be an infinicore.Tensor, not numpy.ndarray"),
        (lambda a: ic.add(None, a), r"add: input must be an infinicore.Tensor, not NoneType"),
        (lambda a: ic.add(a, a, out=[a]), r"add: out must be an infinicore.Tensor, not list"),
        (
            lambda a: ic.cat(a),
            r"cat: tensors must be a list or tuple of infinicore.Tensor, not infinicore\S*Tensor",
        ),
        (lambda a: ic.cat([a, 3]), r"cat: tensors\[1\] must be an infinicore.Tensor, not int"),
        (lambda a: ic.matmul(a, a, alpha="2"), r"alpha must be a number, got '2' \(str\)"),
        (lambda a: ic.softmax(a, axis=1.5), r"softmax: axis must be an int, got 1.5 \(float\)"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ic.ArgumentTypeError, match=message) as info:
        call(tensor([1, 2, 3]))
    assert isinstance(info.value, TypeError)
    assert isinstance(info.value, ic.Error)


@pytest.mark.torch
def test_other_frameworks_are_not_guessed(torch):
    with pytest.raises(TypeError, match=r"add: input must be an infinicore.Tensor, not torch.Tensor"):
        ic.add(torch.ones(3), tensor([1, 2, 3]))


def test_shape_and_dtype_errors_come_before_the_kernel():
    with pytest.raises(ic.ShapeError, match=r"add: .*\(2,\).*\(3,\)"):
        ic.add(tensor([1, 2, 3]), tensor([1, 2]))
    with pytest.raises(ic.DTypeError, match=r"add: other has N=int32, but input has N=float32"):
        ic.add(tensor([1, 2, 3]), tensor([1, 2, 3], np.int32))
    with pytest.raises(ic.ShapeError, match=r"add: out"):
        ic.add(tensor([1, 2, 3]), tensor([1, 2, 3]), out=tensor([1, 2]))
    # A failed plan is not cached, and the next good call works.
    size = ic.cache_info().size
    with pytest.raises(ic.ShapeError):
        ic.add(tensor([1, 2, 3]), tensor([1, 2]))
    assert ic.cache_info().size == size
    assert ic.add(tensor([1, 2, 3]), tensor([1, 2, 3])).tolist() == [2, 4, 6]


# ---- the cache ---------------------------------------------------------------------------------------


def test_second_call_makes_no_descriptor():
    ic.cache_clear()
    a, b, out = (tensor(np.ones((3, 5))) for _ in range(3))
    assert counts(lambda: ic.add(a, b, out=out)) == (0, 1, 0)
    assert counts(lambda: ic.add(a, b, out=out)) == (1, 0, 0)
    # Other tensors of the same layouts share it; another layout, dtype or missing output does not.
    assert counts(lambda: ic.add(b, out, out=a)) == (1, 0, 0)
    assert counts(lambda: ic.add(a.transpose(0, 1), b.transpose(0, 1))) == (0, 1, 0)
    assert counts(lambda: ic.add(a, b)) == (0, 1, 0)
    assert ic.cache_info().size == 3


def test_alternating_layouts_hit_the_table():
    ic.cache_clear()
    pairs = [(tensor(np.ones(n)), tensor(np.ones(n))) for n in range(1, 9)]
    for a, b in pairs:
        ic.add(a, b)

    def again():
        for a, b in pairs:
            ic.add(a, b)

    assert counts(again) == (8, 0, 0)


def test_least_recently_used_is_evicted(limit):
    ic.cache_clear()
    limit(3)
    t = {n: tensor(np.ones(n)) for n in range(1, 6)}
    for n in (1, 2, 3):
        ic.neg(t[n])
    ic.neg(t[1])  # 2 is now the oldest
    assert counts(lambda: ic.neg(t[4])) == (0, 1, 1)
    assert counts(lambda: ic.neg(t[1])) == (1, 0, 0)
    assert counts(lambda: ic.neg(t[3])) == (1, 0, 0)
    assert counts(lambda: ic.neg(t[2])) == (0, 1, 1)
    assert ic.cache_info()[3:] == (3, 3)
    # Lowering the bound evicts at once, zero keeps nothing and still computes.
    assert limit(1) == 3
    assert ic.cache_info().size == 1
    limit(0)
    assert ic.cache_info().size == 0
    assert counts(lambda: ic.neg(t[2])) == (0, 1, 0)
    assert counts(lambda: ic.neg(t[2])) == (0, 1, 0)
    assert ic.neg(t[2]).tolist() == [-1, -1]


def test_many_descriptors_grow_the_table(limit):
    ic.cache_clear()
    limit(500)
    tensors = [tensor(np.ones(n)) for n in range(1, 401)]
    for t in tensors:
        ic.neg(t)
    assert ic.cache_info().size == 400
    assert counts(lambda: [ic.neg(t) for t in tensors]) == (400, 0, 0)
    assert ic.cache_clear() == 400
    assert ic.cache_info().size == 0
    assert counts(lambda: ic.neg(tensors[0])) == (0, 1, 0)


def test_clearing_one_backend():
    ic.cache_clear()
    ic.neg(tensor([1]))
    assert ic.cache_clear("cpu") == 1
    assert ic.cache_clear("cpu") == 0


@pytest.mark.parametrize("bad", [-1, 1.5, None, "4"])
def test_bad_cache_limit(bad):
    with pytest.raises(ic.InvalidArgument, match=r"set_cache_limit: limit is"):
        ic.set_cache_limit(bad)


def test_key_outlives_the_layouts_it_names():
    # Were layouts not held, another layout could be made at the same address and find the wrong descriptor.
    ic.cache_clear()
    for n in range(1, 200):
        assert ic.neg(tensor(np.arange(n))).tolist() == [-float(i) for i in range(n)]


# ---- scalars -----------------------------------------------------------------------------------------


class Mode(enum.IntEnum):
    PLAIN = 0
    DOUBLE = 1


SEEN: list[dict] = []


def everything(
    out: Out[Tensor, "f64 n"],
    x: In[Tensor, "f64 n"],
    *,
    f: float = 1.5,
    i: int = 2,
    b: bool = False,
    m: Mode = Mode.PLAIN,
    sf: Static[float] = 0.5,
    si: Static[int] = 7,
    sb: Static[bool] = True,
    sm: Static[Mode] = Mode.DOUBLE,
    sd: Static[DType] = "f32",
    st: Static[tuple[int, ...]] = (1, 2),
):
    """Note what arrives."""
    SEEN.append({"f": f, "i": i, "b": b, "m": m, "sf": sf, "si": si, "sb": sb, "sm": sm, "sd": sd, "st": st})
    return x


EVERYTHING = Operator(Schema(everything))
X = tensor([1.0], np.float64)
DEFAULTS = {
    "f": 1.5,
    "i": 2,
    "b": False,
    "m": Mode.PLAIN,
    "sf": 0.5,
    "si": 7,
    "sb": True,
    "sm": Mode.DOUBLE,
    "sd": "f32",
    "st": (1, 2),
}


def seen(**options):
    SEEN.clear()
    EVERYTHING(X, **options)
    (values,) = SEEN
    return values


@pytest.mark.parametrize(
    ("options", "arrives"),
    [
        ({}, {}),
        ({"f": 3}, {"f": 3.0}),
        ({"f": np.float32(0.25)}, {"f": 0.25}),
        ({"i": -5}, {"i": -5}),
        ({"i": np.int64(2**40)}, {"i": 2**40}),
        ({"b": True}, {"b": True}),
        ({"m": Mode.DOUBLE}, {"m": Mode.DOUBLE}),
        ({"m": 1}, {"m": Mode.DOUBLE}),
        ({"sf": 2}, {"sf": 2.0}),
        ({"sf": np.float64(0.125)}, {"sf": 0.125}),
        ({"si": np.int32(-9)}, {"si": -9}),
        ({"sb": False}, {"sb": False}),
        ({"sm": Mode.PLAIN}, {"sm": Mode.PLAIN}),
        ({"sm": 0}, {"sm": Mode.PLAIN}),
        ({"sd": ic.bfloat16}, {"sd": "bf16"}),
        ({"sd": "int64"}, {"sd": "i64"}),
        ({"st": ()}, {"st": ()}),
        ({"st": [3, 4, 5]}, {"st": (3, 4, 5)}),
        ({"st": (np.int64(8), 9)}, {"st": (8, 9)}),
    ],
)
def test_scalars_arrive(options, arrives):
    for _ in range(2):  # planned, then cached
        assert seen(**options) == DEFAULTS | arrives


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"f": "1"}, "f must be a number, got '1'"),
        ({"i": 1.0}, "i must be an int, got 1.0"),
        ({"b": 2}, "b must be a bool, got 2"),
        ({"m": 5}, r"m=5, but it must be one of PLAIN \(0\), DOUBLE \(1\)"),
        ({"si": 2.5}, "si must be an int, got 2.5"),
        ({"sb": 1}, "sb must be a bool, got 1"),
        ({"sd": "f33"}, "sd must be a dtype, got 'f33'"),
        ({"st": 3}, "st must be a sequence of ints, got 3"),
        ({"st": (1.5,)}, "st must be a sequence of ints"),
    ],
)
def test_wrong_scalars(options, message):
    seen()
    for _ in range(2):
        with pytest.raises((ic.ArgumentTypeError, ic.InvalidArgument), match=message):
            seen(**options)


def test_the_plan_of_one_axis_does_not_serve_another():
    x = tensor(np.arange(16, dtype=np.float32).reshape(4, 4))
    for axis in (0, 1, 0):
        np.testing.assert_allclose(ic.softmax(x, axis=axis).numpy().sum(axis=axis), np.ones(4), rtol=1e-6)


def test_only_static_scalars_join_the_key():
    seen()
    plain = [{"f": 9.0}, {"f": -0.0}, {"i": 1}, {"b": True}, {"m": Mode.DOUBLE}]
    for value in plain:
        assert counts(lambda value=value: seen(**value)) == (1, 0, 0)
    static = [{"sf": 0.25}, {"sf": 0.0}, {"sf": -0.0}, {"sf": float("nan")}, {"si": 1}, {"sb": False}]
    static += [{"sm": Mode.PLAIN}, {"sd": ic.int8}, {"st": (1,)}, {"st": (2, 1)}, {"st": ()}]
    ic.cache_clear()
    for value in static:
        assert counts(lambda value=value: seen(**value)) == (0, 1, 0)
        assert counts(lambda value=value: seen(**value)) == (1, 0, 0)


def test_true_is_not_one():
    seen(si=1)
    seen(sb=True)
    with pytest.raises(ic.ArgumentTypeError):
        seen(sb=1)
    with pytest.raises(ic.ArgumentTypeError):
        seen(si=True)


def test_int_beyond_64_bits():
    for name, value in (("i", 2**63), ("si", -(2**63) - 1), ("st", (1, 2**70)), ("f", 10**400)):
        with pytest.raises(
            ic.InvalidArgument, match=rf"everything: {name}={value if name != 'st' else 2**70}"
        ):
            seen(**{name: value})
    seen(f=2**70)  # a float of its own


# ---- more slots and items than the inline arrays hold ------------------------------------------------


def test_no_limit_on_slots():
    names = [f"x{i}" for i in range(40)]
    text = "".join(f"{n}: In[Tensor, 'f64 n'], " for n in names)
    space = {"In": In, "Out": Out, "Tensor": Tensor}
    exec(f"def many(out: Out[Tensor, 'f64 n'], {text}):\n    'Sum.'\n    return {' + '.join(names)}", space)
    many = Operator(Schema(space["many"]))
    tensors = [tensor([float(i)], np.float64) for i in range(40)]
    for _ in range(2):
        assert many(*tensors).tolist() == [780.0]
        assert many(**dict(zip(names, tensors, strict=True))).tolist() == [780.0]


def listed(out: Out[Tensor, "f64 n"], xs: In[TensorList, "f64 n"], *, k: Static[tuple[int, ...]] = ()):
    """Sum of a list, plus the sum of k."""
    return sum(xs) + sum(k)


LISTED = Operator(Schema(listed))


@given(count=st.integers(1, 120), extra=st.lists(st.integers(-5, 5), max_size=120))
def test_no_limit_on_items(count, extra):
    xs = [tensor([float(i)], np.float64) for i in range(count)]
    for form in (list, tuple):
        assert LISTED(form(xs), k=form(extra)).tolist() == [count * (count - 1) / 2 + sum(extra)]


def test_lists_of_equal_sum_have_their_own_keys():
    ic.cache_clear()
    a, b = tensor([1.0], np.float64), tensor([2.0], np.float64)
    LISTED([a], k=(1, 2))
    assert counts(lambda: LISTED([a, b], k=(1, 2))) == (0, 1, 0)
    assert counts(lambda: LISTED([a], k=(2, 1))) == (0, 1, 0)
    assert counts(lambda: LISTED([b], k=(1, 2))) == (1, 0, 0)


def test_empty_list():
    with pytest.raises(ic.InvalidArgument, match="listed: xs has 0 tensors"):
        LISTED([])


# ---- outputs -----------------------------------------------------------------------------------------


def halves(low: Out[Tensor, "f64 n"], high: Out[Tensor, "f64 n"], x: In[Tensor, "f64 n"]):
    """x - 1 and x + 1."""
    return x - 1, x + 1


HALVES = Operator(Schema(halves))


def test_several_outputs_are_a_tuple():
    x = tensor([5.0], np.float64)
    low, high = HALVES(x)
    assert (low.tolist(), high.tolist()) == ([4.0], [6.0])
    mine, yours = tensor([0.0], np.float64), tensor([0.0], np.float64)
    result = HALVES(x, out=(mine, yours))
    assert isinstance(result, tuple)
    assert result[0] is mine
    assert result[1] is yours
    assert (mine.tolist(), yours.tolist()) == ([4.0], [6.0])
    low, same = HALVES(x, out=[None, yours])
    assert same is yours
    assert low.tolist() == [4.0]
    with pytest.raises(ic.ArgumentTypeError, match=r"out must be a tuple of 2 tensors \(low, high\), not"):
        HALVES(x, out=mine)
    with pytest.raises(ic.InvalidArgument, match="halves: low and high are both written and share memory"):
        HALVES(x, out=(mine, mine))


NAMED = Operator(Schema(halves, python="halves(x, *, out=None, upper: high=None)"))


def test_an_output_may_have_a_name_of_its_own():
    x, mine, yours = (tensor([value], np.float64) for value in (5.0, 0.0, 0.0))
    for outs in (
        {"out": mine, "upper": yours},
        {"out": (mine, yours)},
        {"out": (mine, yours), "upper": None},
    ):
        mine.zero_(), yours.zero_()
        low, high = NAMED(x, **outs)
        assert low is mine and high is yours
        assert (mine.tolist(), yours.tolist()) == ([4.0], [6.0])
    low, high = NAMED(x, upper=yours)
    assert high is yours and low.tolist() == [4.0]
    low, high = NAMED(x, out=mine)
    assert low is mine and high.tolist() == [6.0]
    assert str(inspect.signature(NAMED)) == "(x, *, out=None, upper=None)"
    # Each of them has memory of its own, or waits for it, and none is an input by accident.
    low, high = NAMED(x, out=x, upper=yours)
    assert low is x and (x.tolist(), yours.tolist()) == ([4.0], [6.0])
    low, high = NAMED(x, out=mine, upper=x)
    assert high is x and (mine.tolist(), x.tolist()) == ([3.0], [5.0])
    for outs, message in (
        (
            {"out": (mine, yours), "upper": yours},
            "upper is given, so out must be one tensor or None and not tuple",
        ),
        ({"out": 3}, r"out must be a tuple of 2 tensors \(low, high\), not int"),
        ({"upper": 3}, "upper must be an infinicore.Tensor, not int"),
        ({"out": mine, "upper": mine}, "share memory"),
        ({"out": mine, "upper": tensor([0.0, 0.0], np.float64)}, "upper"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            NAMED(x, **outs)
    with pytest.raises(TypeError, match="halves: output high must come after out"):
        Schema(halves, python="halves(x, *, high=None, out=None)")


def accumulate(c: InOut[Tensor, "f64 n"], x: In[Tensor, "f64 n"], *, beta: float = 1.0):
    """c = x + beta * c."""
    return x + beta * c


ACCUMULATE = Operator(Schema(accumulate))


def test_inout_comes_back():
    c = tensor([1.0, 2.0], np.float64)
    assert ACCUMULATE(c, tensor([10.0, 20.0], np.float64), beta=3.0) is c
    assert c.tolist() == [13.0, 26.0]


def test_optional_tensor():
    x, w = tensor(np.ones((2, 3))), tensor(np.ones((4, 3)))
    bias = tensor([1, 2, 3, 4])
    assert ic.linear(x, w).tolist() == [[3.0] * 4] * 2
    assert ic.linear(x, w, None).tolist() == [[3.0] * 4] * 2
    assert ic.linear(x, w, bias).tolist() == [[4.0, 5.0, 6.0, 7.0]] * 2
    assert ic.linear(x, w).tolist() == [[3.0] * 4] * 2


# ---- broadcasting and overlap ------------------------------------------------------------------------


@given(
    st.sampled_from(
        [((4, 8), (1, 8)), ((4, 8), (8,)), ((3, 1), (1, 5)), ((2, 3, 4), ()), ((), ()), ((0, 3), (3,))]
    ),
    st.booleans(),
)
def test_broadcasting_makes_views(shapes, swap):
    left, right = (np.random.default_rng(0).standard_normal(s).astype(np.float32) for s in shapes)
    if swap:
        left, right = right, left
    for _ in range(2):
        result = ic.add(tensor(left), tensor(right))
        np.testing.assert_array_equal(result.numpy(), left + right)


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.booleans())
def test_overlapping_output_gives_the_right_result(out, left, right, backwards):
    memory = np.arange(16, dtype=np.float32)
    base = tensor(memory)
    view = [base.narrow(0, start, 8) for start in (out, left, right)]
    if backwards:
        view[0] = base.as_strided((8,), (2,), 0)
    want = memory[left : left + 8] + memory[right : right + 8]
    assert ic.add(view[1], view[2], out=view[0]) is view[0]
    assert view[0].tolist() == want.tolist()


def test_exact_alias_needs_no_temporary():
    a, b = tensor(np.arange(4096)), tensor(np.ones(4096))
    ic.add(a, b, out=a)
    before = ic.memory_stats("cpu")["allocations"]
    ic.add(a, b, out=a)
    assert ic.memory_stats("cpu")["allocations"] == before
    assert a.tolist()[:3] == [2.0, 3.0, 4.0]


def test_overlapping_inout_keeps_its_old_values():
    base = tensor(np.arange(6), np.float64)
    c, x = base.narrow(0, 1, 4), base.narrow(0, 0, 4)
    ACCUMULATE(c, x, beta=10.0)
    assert base.tolist() == [0.0, 10.0, 21.0, 32.0, 43.0, 5.0]


def test_overlap_within_a_list():
    base = tensor(np.arange(6))
    ic.cat([base.narrow(0, 3, 3), base.narrow(0, 0, 3)], out=base)
    assert base.tolist() == [3.0, 4.0, 5.0, 0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((3,), (0,)),
        ((3, 3), (1, 1)),
        ((2, 2), (2, 3)),
        ((3, 2), (2, 3)),
        ((4, 3), (2, 3)),
        ((1, 3), (0, 1)),
        ((0, 3), (0, 0)),
        ((2, 3), (-3, 1)),
        ((2, 3), (-2, 1)),
    ],
)
def test_output_that_overlaps_itself(shape, strides):
    base = tensor(np.zeros(64))
    start = sum(-s * (n - 1) for n, s in zip(shape, strides, strict=True) if s < 0)
    offsets = [sum(i * s for i, s in zip(index, strides, strict=True)) for index in np.ndindex(*shape)]
    fine = len(set(offsets)) == len(offsets)
    out = base.as_strided(shape, strides, start)
    x = tensor(np.ones(shape))
    if fine:
        ic.neg(x, out=out)
        assert out.tolist() == (-np.ones(shape)).tolist()
    else:
        with pytest.raises(
            ic.StrideError, match=r"neg: out is float32 .*: elements that are written share memory"
        ):
            ic.neg(x, out=out)


# ---- descriptors -------------------------------------------------------------------------------------


def test_describe():
    a, b, c = tensor(np.eye(4)), tensor(np.arange(16).reshape(4, 4)), tensor(np.ones((4, 4)))
    lookups = counts(lambda: ic.gemm.describe(c, a, b, alpha=2.0))
    assert lookups == (0, 0, 0)
    d = ic.gemm.describe(c, a, b, alpha=2.0)
    assert d.workspace_bytes >= 0
    assert d.device == ic.device("cpu")
    assert d.operator is ic.gemm
    assert repr(d).startswith("<descriptor of gemm(")
    assert counts(lambda: d(c, a, b)) == (0, 0, 0)
    assert c.tolist() == (2.0 * np.arange(16).reshape(4, 4)).tolist()
    d(c, a, b, alpha=1.0, beta=1.0)
    assert c.tolist() == (3.0 * np.arange(16).reshape(4, 4)).tolist()
    workspace = ic.empty((d.workspace_bytes + 64,), dtype=ic.uint8, device="cpu")
    d(c, a, b, workspace=workspace, stream=ic.current_stream())
    assert c.tolist() == (2.0 * np.arange(16).reshape(4, 4)).tolist()


def test_describe_without_output():
    a = tensor([[1, 2], [3, 4]])
    d = ic.softmax.describe(a, axis=0)
    assert d(a).shape == [2, 2]
    out = tensor(np.zeros((2, 2)))
    assert d(a, out=out) is out
    np.testing.assert_allclose(out.numpy().sum(axis=0), [1, 1], rtol=1e-6)
    with pytest.raises(ic.InvalidArgument, match="softmax: axis is 1, but the descriptor was made for 0"):
        d(a, axis=1)
    assert d(a, axis=0).shape == [2, 2]


def test_descriptor_refuses_other_layouts():
    a = tensor(np.ones((4, 4)))
    d = ic.add.describe(a, a)
    with pytest.raises(
        ic.InvalidArgument,
        match=r"add: other is float32 \(4, 4\) with strides \(1, 4\), but the descriptor was made for "
        r"float32 \(4, 4\) with strides \(4, 1\)",
    ):
        d(a, a.transpose(0, 1))
    with pytest.raises(ic.ArgumentTypeError, match="missing"):
        d(a)


def test_descriptors_and_nodes_cannot_be_made_by_hand():
    with pytest.raises(TypeError, match="describe"):
        type(ic.add.describe(X.to(ic.float32), X.to(ic.float32)))()


# ---- threads -----------------------------------------------------------------------------------------


def test_one_operator_from_many_threads(limit):
    limit(5)
    failures = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(300):
            n = int(rng.integers(1, 12))
            x = np.full(n, float(seed), dtype=np.float32)
            got = ic.add(tensor(x), tensor(np.arange(n))).tolist()
            if got != (x + np.arange(n)).tolist():
                failures.append((seed, n, got))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert ic.cache_info().size <= 5
