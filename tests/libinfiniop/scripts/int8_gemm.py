# Product of int8 matrices, scaled by row and column, through the C API; the weights lie column by column.
from _script import BF16, F16, F32, I8, announce, main, operator, profile, verify

from libinfiniop import TestTensor

CASES = [(1, 64, 32, True), (5, 128, 48, False), (17, 200, 64, True)]  # m, k, n, whether there is a bias
TOLERANCES = {F16: {"atol": 3e-1, "rtol": 1e-2}, BF16: {"atol": 3e-1, "rtol": 1e-2}}


def test(handle, device, m, k, n, has_bias, dtype, sync):
    announce("I8Gemm", device, dtype, m=m, k=k, n=n, bias=has_bias)
    x = TestTensor((m, k), None, I8, device, mode="randint")
    weights = TestTensor((k, n), (1, k), I8, device, mode="randint")
    x_scale = TestTensor((m, 1), None, F32, device, scale=0.01)
    weights_scale = TestTensor((n, 1), None, F32, device, scale=0.01)
    bias = TestTensor((n,), None, dtype, device) if has_bias else None
    out = TestTensor((m, n), None, dtype, device, mode="zeros")

    def reference():
        product = x.torch_tensor().double() @ weights.torch_tensor().double()
        product = product * x_scale.torch_tensor() * weights_scale.torch_tensor().T
        return product if bias is None else product + bias.torch_tensor()

    others = [x, x_scale, weights, weights_scale]
    create = [out.descriptor, bias.descriptor if bias else None, *(t.descriptor for t in others)]
    with operator("I8Gemm", handle, create, [out, *others, *([bias] if bias else [])], device) as call:
        ours = lambda: call(out.data(), bias.data() if bias else None, *(t.data() for t in others))
        ours()
        verify(out, reference(), TOLERANCES, dtype)
        profile(reference, ours, device)


if __name__ == "__main__":
    main(test, CASES, [F16, BF16])
