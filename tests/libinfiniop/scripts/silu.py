# SiLU through the C API, against PyTorch's, also in f64.
import torch
from _elementwise import unary
from _script import BF16, F16, F32, F64

TOLERANCES = {
    F16: {"atol": 1e-3, "rtol": 1e-3},
    F32: {"atol": 1e-7, "rtol": 1e-7},
    F64: {"atol": 2.22e-15, "rtol": 2.22e-15},
    BF16: {"atol": 1e-2, "rtol": 1e-2},
}

if __name__ == "__main__":
    unary("Silu", torch.nn.functional.silu, TOLERANCES, (F16, F32, F64, BF16))
