# Matrix products of infinicore-cuda through cuBLASLt: every type and epilogue that a product may have, and
# how operators reach them. The double refuses what the library documents as illegal.
from __future__ import annotations

import ctypes
import math
from ctypes import byref, c_double, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import infinicore as ic
from infinicore.testing.tables import Tables, alone

H2D, D2H = 1, 2
F32, F64, F16, I8, I32, BF16, E4M3, E5M2 = 0, 1, 2, 3, 10, 14, 28, 29  # cudaDataType_t
IN_F32, IN_F64, IN_I32, IN_TF32 = 68, 70, 72, 77  # cublasComputeType_t
NONE, RELU, BIAS, GELU = 1, 2, 4, 32  # cublasLtEpilogue_t; the last three may be joined
NUMPY = {
    F32: np.dtype(np.float32), F64: np.dtype(np.float64), F16: np.dtype(np.float16), I8: np.dtype(np.int8),
    I32: np.dtype(np.int32), BF16: np.dtype(ml_dtypes.bfloat16), E4M3: np.dtype(ml_dtypes.float8_e4m3fn),
    E5M2: np.dtype(ml_dtypes.float8_e5m2),
}  # fmt: skip
ROWS, COLUMNS, DEPTH, BATCH = 32, 16, 48, 2
NOT_IMPLEMENTED = 2


class Problem(ctypes.Structure):
    _fields_ = [
        (name, c_int64)
        for name in (
            "rows", "columns", "depth", "lda", "ldb", "ldc", "batch", "stride_a", "stride_b", "stride_c",
            "transpose_a", "transpose_b", "type_a", "type_b", "type_c", "compute", "epilogue", "scaled",
            "device", "workspace_limit",
        )
    ]  # fmt: skip


class Operands(ctypes.Structure):
    _fields_ = [
        ("alpha", c_double), ("a", c_void_p), ("b", c_void_p), ("beta", c_double), ("c", c_void_p),
        ("bias", c_void_p), ("scale_a", c_void_p), ("scale_b", c_void_p),
    ]  # fmt: skip


class Multiplier:
    """Multiplies host arrays through the plug-in's Product; columns first, as cuBLAS counts."""

    def __init__(self, tables: Tables) -> None:
        self.runtime: Any = tables.runtime
        self.function = ctypes.CDLL("libinfinicore_cuda.so").cuda_double_product
        self.memory: list[c_void_p] = []

    def on_device(self, array: np.ndarray) -> c_void_p:
        content, memory = array.tobytes(order="F"), c_void_p()
        self.runtime.malloc_device(c_uint64(len(content)), byref(memory))
        self.memory.append(memory)
        self.runtime.memcpy_sync(memory, content, c_uint64(len(content)), H2D)
        return memory

    def __call__(
        self, a: np.ndarray, b: np.ndarray, c: np.ndarray, types: tuple[int, int, int], compute: int,
        epilogue: int = NONE, alpha: float = 1, beta: float = 0, bias: np.ndarray | None = None,
        scales: tuple[float, float] | None = None, transposed: tuple[int, int] = (1, 0),
    ) -> tuple[int, np.ndarray | str]:  # fmt: skip
        """``a`` is (rows, depth, batch), or (depth, rows, batch) transposed; and so on. Status and result."""
        self.runtime.set_device(0)
        rows, columns, batch = c.shape
        problem = Problem(
            rows, columns, b.shape[transposed[1]], a.shape[0], b.shape[0], rows, batch,
            a[..., 0].size, b[..., 0].size, rows * columns, *transposed, *types, compute, epilogue,
            scales is not None, 0, 1 << 20,
        )  # fmt: skip
        told = Operands(alpha, self.on_device(a), self.on_device(b), beta, self.on_device(c))
        if bias is not None:
            told.bias = self.on_device(bias)
        if scales is not None:
            told.scale_a, told.scale_b = (self.on_device(np.float32([s])) for s in scales)
        workspace = self.on_device(np.zeros(1 << 14, np.int8))
        why, wanted = ctypes.create_string_buffer(500), c_uint64()
        call = (byref(problem), byref(told), workspace, byref(wanted), why, c_size_t(len(why)))
        status = self.function(*call)
        if status:
            return status, why.value.decode()
        assert 0 < wanted.value <= 1 << 14
        result = ctypes.create_string_buffer(c.nbytes)
        self.runtime.memcpy_sync(result, c_void_p(told.c), c_uint64(c.nbytes), D2H)
        return 0, np.frombuffer(result.raw, c.dtype).reshape(c.shape, order="F")

    def close(self) -> None:
        for memory in self.memory:
            self.runtime.free_device(memory)


@pytest.fixture
def multiply(tables: Tables) -> Any:
    made = Multiplier(tables)
    yield made
    alone(lambda: (made.runtime.set_device(0), made.close()))()


def numbers(shape: tuple[int, ...], type: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if type == I8:
        return rng.integers(-128, 128, shape, np.int8)
    return rng.uniform(-2, 2, shape).astype(NUMPY[type])


def activated(x: np.ndarray, epilogue: int) -> np.ndarray:
    if epilogue & RELU:
        return np.maximum(x, 0)
    if epilogue & GELU:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x


def tf32(x: np.ndarray) -> np.ndarray:
    return (x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


TYPES = {
    "f32": ((F32, F32, F32), IN_F32),
    "tf32": ((F32, F32, F32), IN_TF32),
    "f64": ((F64, F64, F64), IN_F64),
    "f16": ((F16, F16, F16), IN_F32),
    "bf16": ((BF16, BF16, BF16), IN_F32),
    "int8": ((I8, I8, I32), IN_I32),
    "e4m3": ((E4M3, E4M3, BF16), IN_F32),
    "e4m3 e5m2": ((E4M3, E5M2, F16), IN_F32),
    "e5m2 e4m3": ((E5M2, E4M3, F32), IN_F32),
}
PLAIN = ("f64", "int8")  # of which cuBLASLt knows no epilogues


def expected(types, compute, a, b, c, epilogue=NONE, alpha=1.0, beta=0.0, bias=None, scales=(1.0, 1.0)):
    if compute == IN_TF32:
        a, b = tf32(a), tf32(b)
    a, b, c = (x.astype(np.float64) for x in (a, b, c))
    value = alpha * scales[0] * scales[1] * np.einsum("krn,kcn->rcn", a, b) + beta * c
    if bias is not None:
        value = value + bias.astype(np.float64)[:, None, None]
    return activated(value, epilogue)


def drawn(types: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        numbers((DEPTH, ROWS, BATCH), types[0], 1),
        numbers((DEPTH, COLUMNS, BATCH), types[1], 2),
        numbers((ROWS, COLUMNS, BATCH), types[2], 3),
    )


def compare(result: np.ndarray, wanted: np.ndarray, type: int) -> None:
    step = 0 if type == I32 else float(ml_dtypes.finfo(NUMPY[type]).eps)
    np.testing.assert_allclose(result.astype(np.float64), wanted, rtol=step, atol=step)


@pytest.mark.parametrize("name", TYPES)
@alone
def test_every_type_in_batches(multiply: Multiplier, name: str) -> None:
    types, compute = TYPES[name]
    a, b, c = drawn(types)
    alpha, beta = (3, -2) if types[0] == I8 else (0.75, -1.5)
    status, result = multiply(a, b, c, types, compute, alpha=alpha, beta=beta)
    assert status == 0, result
    compare(result, expected(types, compute, a, b, c, alpha=alpha, beta=beta), types[2])


@pytest.mark.parametrize("epilogue", [BIAS, RELU, RELU | BIAS, GELU, GELU | BIAS])
@pytest.mark.parametrize("name", ["f32", "tf32", "f16", "bf16", "e4m3"])
@alone
def test_every_epilogue(multiply: Multiplier, name: str, epilogue: int) -> None:
    types, compute = TYPES[name]
    a, b, c = drawn(types)
    bias = numbers((ROWS,), types[2], 4) if epilogue & BIAS else None
    status, result = multiply(a, b, c, types, compute, epilogue, alpha=0.25, bias=bias)
    assert status == 0, result
    compare(result, expected(types, compute, a, b, c, epilogue, 0.25, bias=bias), types[2])


@alone
def test_fp8_with_a_factor_for_each_matrix(multiply: Multiplier) -> None:
    types, compute = TYPES["e4m3 e5m2"]
    a, b, c = drawn(types)
    status, result = multiply(a, b, c, types, compute, scales=(0.5, 0.125))
    assert status == 0, result
    compare(result, expected(types, compute, a, b, c, scales=(0.5, 0.125)), types[2])


@pytest.mark.parametrize(
    ("types", "compute", "epilogue", "transposed"),
    [
        pytest.param((E5M2, E5M2, BF16), IN_F32, NONE, (1, 0), id="two of e5m2"),
        pytest.param((E4M3, E4M3, BF16), IN_F32, NONE, (0, 0), id="fp8 by columns"),
        pytest.param((I8, I8, I32), IN_I32, RELU, (1, 0), id="int8 with an epilogue"),
        pytest.param((F32, F16, F32), IN_F32, NONE, (1, 0), id="f32 with f16"),
    ],
)
@alone
def test_what_cublaslt_does_not_multiply(
    multiply: Multiplier, types: Any, compute: int, epilogue: int, transposed: tuple[int, int]
) -> None:
    a = numbers((DEPTH, DEPTH, 1), types[0], 1)
    c = numbers((DEPTH, DEPTH, 1), types[2], 3)
    status, why = multiply(a, a.astype(NUMPY[types[1]]), c, types, compute, epilogue, transposed=transposed)
    assert (status, why) == (
        NOT_IMPLEMENTED,
        "cublasLtMatmulAlgoGetHeuristic: the functionality is not supported (cublasStatus_t 15)",
    )


# ---- operators: with more rows than a kernel without tensor cores may take ---------------------------------


def of(array: np.ndarray) -> ic.Tensor:
    return ic.from_numpy(array).to("cuda")


class Products:
    """How many products cuBLASLt made since the last time."""

    def __init__(self, double: ctypes.CDLL) -> None:
        self.double, self.before = double, 0
        self()

    def __call__(self) -> int:
        now = self.double.cuda_double_live(b"matmul")
        self.before, made = now, now - self.before
        return made


@pytest.fixture
def products(double: ctypes.CDLL) -> Products:
    return Products(double)


@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 16, 4), (5, 64, 12), (7, 33, 20), (3, 20, 7)], ids=["row", "fits", "k", "n"]
)
@pytest.mark.parametrize("by_columns", [True, False])
def test_int8_products_are_cublaslts(products: Products, m: int, k: int, n: int, by_columns: bool) -> None:
    rng = np.random.default_rng(m)
    x = rng.integers(-128, 128, (m, k), np.int8)
    weights = rng.integers(-128, 128, (k, n), np.int8)
    scales = rng.uniform(0.01, 0.02, m + n).astype(np.float32)
    bias = rng.uniform(-1, 1, n).astype(np.float32)
    stored = of(np.ascontiguousarray(weights.T)).permute((1, 0)) if by_columns else of(weights)
    result = ic.int8_gemm(of(x), of(scales[:m]), stored, of(scales[m:]), of(bias))
    assert products() == 1
    sums = x.astype(np.float64) @ weights.astype(np.float64)
    np.testing.assert_allclose(
        result.to("cpu").numpy(), sums * scales[:m, None] * scales[m:] + bias, rtol=1e-6, atol=1e-5
    )


def test_int8_products_that_cublaslt_does_not_take(products: Products) -> None:
    """An address that no transfer of 4 bytes may have goes to a kernel that takes everything."""
    x = np.arange(65, dtype=np.int8)
    ones = of(np.ones(4, np.float32))
    weights = of(np.ones((4, 16), np.int8)).permute((1, 0))
    shifted = of(x).narrow(0, 1, 64).view((4, 16))
    assert ic.int8_gemm(shifted, ones, weights, ones).tolist() == [[136.0 + 256 * i] * 4 for i in range(4)]
    assert products() == 0


def test_a_bias_is_part_of_the_product(products: Products) -> None:
    x, weight, bias = np.arange(72, dtype=np.float32).reshape(24, 3), np.eye(2, 3, 1), [10, 20]
    out = ic.linear(of(x), of(np.float32(weight)), of(np.float32(bias)))
    assert out.tolist() == (x @ weight.T + bias).tolist()
    assert products() == 1


def test_a_bias_at_an_odd_address_chooses_the_algorithm(products: Products) -> None:
    x, weight, bias = (
        np.arange(72, dtype=np.float16).reshape(24, 3),
        np.eye(16, 3, dtype=np.float16),
        np.arange(17),
    )
    out = ic.linear(of(x), of(weight), of(np.float16(bias)).narrow(0, 1, 16))
    assert out.tolist() == (x @ weight.T + bias[1:]).tolist()
    assert products() == 1


def test_a_batch_is_one_product(products: Products) -> None:
    a, b = (np.arange(240, dtype=np.float32).reshape(4, 20, 3), np.ones((4, 3, 5), np.float32))
    c = ic.baddbmm(of(np.ones((4, 20, 5), np.float32)), of(a), of(b), beta=0.5)
    assert products() == 1
    np.testing.assert_array_equal(c.to("cpu").numpy(), a @ b + 0.5)


@pytest.mark.parametrize(("chosen", "kept"), [("", 2.0**-12), ("0", 2.0**-12), ("1", 0.0)])
def test_tf32_is_a_choice(python: Any, chosen: str, kept: float) -> None:
    """Ten bits of fraction instead of 23, where the environment says so."""
    said = python(
        """
        a = on(np.float32([[1 + 2**-10], [1 + 2**-12]] * 10))
        one = on(np.ones((1, 1), np.float32))
        for function in (ic.matmul, ic.linear):
            print([row[0] - 1 for row in function(a, one).tolist()])
        """,
        INFINICORE_CUDA_TF32=chosen,
    )
    assert said == 2 * f"{[2.0**-10, kept] * 10}\n"


def test_an_algorithm_that_is_none(python: Any) -> None:
    """Each result of the heuristic has a status of its own."""
    said = python(
        """
        a = on(np.ones((20, 20), np.float32))
        configure("fail=heuristic_state:1:15")
        error_of(ic.matmul, a, a)
        print(ic.matmul(a, a).tolist()[0][0])
        """
    )
    assert "cublasLtMatmulAlgoGetHeuristic: no algorithm for this product" in said
    assert said.endswith("\n20.0\n")


def test_int8_products_without_cublaslt(python: Any, folder: Path, tmp_path: Path) -> None:
    for name in ("libcudart.so.13", "libcuda.so.1"):
        (tmp_path / name).symlink_to(folder / name)
    said = python(
        """
        x, ones = on(np.full((2, 8), 3, np.int8)), on(np.ones(2, np.float32))
        print(ic.int8_gemm(x, ones, x.permute((1, 0)), ones).tolist())
        """,
        LD_LIBRARY_PATH=str(tmp_path),
    )
    assert said == "[[72.0, 72.0], [72.0, 72.0]]\n"
