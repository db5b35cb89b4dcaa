# A tensor full of ones through the C API, in every dtype that PyTorch has.
import torch
from _elementwise import unary

from libinfiniop import InfiniDtype

NAMES = "BYTE BOOL I8 I16 I32 I64 U8 U16 U32 U64 F16 F32 F64 BF16".split()
DTYPES = [getattr(InfiniDtype, name) for name in NAMES]
TOLERANCES = {dtype: {"atol": 1e-3, "rtol": 1e-3} for dtype in DTYPES}

if __name__ == "__main__":
    unary("Ones", torch.ones_like, TOLERANCES, DTYPES, mode="ones")
