# Elementwise operators differ in their name, expression of PyTorch and tolerances only: these run one of them
# over contiguous, padded, transposed and repeated operands, into memory of its own and in place.
"""The test of an elementwise operator."""

from _script import BF16, F16, F32, announce, main, operator, profile, verify

from libinfiniop import TestTensor

# shape, strides of the inputs, strides of the output
UNARY = [
    ((13, 4), None, None),
    ((13, 4), (10, 1), (10, 1)),
    ((13, 4), (0, 1), None),
    ((13, 4, 4), (4, 52, 1), None),
    ((16, 5632), None, None),
    ((16, 5632), (13312, 1), (13312, 1)),
]
BINARY = [
    ((13, 4), None, None, None),
    ((13, 4), (10, 1), (10, 1), (10, 1)),
    ((13, 4), (0, 1), None, None),
    ((3, 4), (1, 0), (0, 1), None),
    ((13, 4, 4), (20, 4, 1), (20, 4, 1), (20, 4, 1)),
    ((13, 4, 4), (4, 0, 1), (0, 4, 1), None),
    ((16, 1024), None, None, None),
]


def unary(base, function, tolerances, dtypes=(F16, F32, BF16), inplace=True, **values):
    """Test operator `base` against ``function(x)``; `values` go to TestTensor."""

    def test(handle, device, shape, x_strides, y_strides, into, dtype, sync):
        x = TestTensor(shape, x_strides, dtype, device, **values)
        if into == "x" and (x.is_broadcast() or x_strides != y_strides):
            return
        y = x if into == "x" else TestTensor(shape, y_strides, dtype, device, mode="ones")
        announce(base, device, dtype, shape=shape, strides=x_strides, into=into)
        want = function(x.torch_tensor()).expand(shape)
        if sync is not None:
            sync()
        create = [y.descriptor, x.descriptor]
        with operator(base, handle, create, {x, y}, device) as call:
            call(y.data(), x.data())
            verify(y, want, tolerances, dtype)
            profile(lambda: function(x.torch_tensor()), lambda: call(y.data(), x.data()), device)

    cases = [(*case, into) for case in UNARY for into in ("own", "x")]
    main(test, cases if inplace else [(*case, "own") for case in UNARY], dtypes)


def binary(base, function, tolerances, dtypes=(F16, F32, BF16), **values):
    """Test operator `base` against ``function(a, b)``; `values` go to TestTensor."""

    def test(handle, device, shape, a_strides, b_strides, c_strides, into, dtype, sync):
        a = TestTensor(shape, a_strides, dtype, device, **values)
        b = TestTensor(shape, b_strides, dtype, device, **values)
        own = {"a": a, "b": b}
        if into in own:
            c = own[into]
            if c.is_broadcast():
                return
        else:
            c = TestTensor(shape, c_strides, dtype, device, mode="zeros")
        announce(base, device, dtype, shape=shape, a=a_strides, b=b_strides, c=c_strides, into=into)
        want = function(a.torch_tensor(), b.torch_tensor())
        if sync is not None:
            sync()
        create = [c.descriptor, a.descriptor, b.descriptor]
        with operator(base, handle, create, {a, b, c}, device) as call:
            call(c.data(), a.data(), b.data())
            verify(c, want, tolerances, dtype)
            torch_call = lambda: function(a.torch_tensor(), b.torch_tensor())
            profile(torch_call, lambda: call(c.data(), a.data(), b.data()), device)

    main(test, [(*case, into) for case in BINARY for into in ("own", "a", "b")], dtypes)
