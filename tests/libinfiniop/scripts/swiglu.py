# SwiGLU through the C API: the second operand is the gate.
import torch
from _elementwise import binary
from _script import BF16, F16, F32

TOLERANCES = {
    F16: {"atol": 1e-3, "rtol": 1e-3},
    F32: {"atol": 1e-5, "rtol": 1e-5},
    BF16: {"atol": 5e-3, "rtol": 1e-2},
}

if __name__ == "__main__":
    binary("SwiGLU", lambda a, b: a * b * torch.sigmoid(b.float()).to(b.dtype), TOLERANCES)
