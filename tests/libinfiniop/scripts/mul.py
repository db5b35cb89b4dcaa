# Elementwise product through the C API, against PyTorch's.
from _elementwise import binary
from _script import BF16, F16, F32

TOLERANCES = {
    F16: {"atol": 1e-3, "rtol": 1e-3},
    F32: {"atol": 1e-7, "rtol": 1e-7},
    BF16: {"atol": 1e-3, "rtol": 1e-3},
}

if __name__ == "__main__":
    binary("Mul", lambda a, b: a * b, TOLERANCES)
