# Elements of every dtype as NumPy carries them and as memory holds them, and where a layout puts them.
# Needs NumPy and ml_dtypes only, so that programs that run drawn calls do without hypothesis.
"""Values and their memory."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

__all__ = ["NUMPY", "PARTS", "Layout", "decode", "encode", "itemsize"]

#: Short name of a dtype -> the NumPy dtype that carries its values. The two narrow complex types have none
#: of their own: complex64 carries values that are rounded to pairs of float8 or float16.
NUMPY: dict[str, np.dtype] = {
    "byte": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
    "i8": np.dtype(np.int8),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8),
    "u16": np.dtype(np.uint16),
    "u32": np.dtype(np.uint32),
    "u64": np.dtype(np.uint64),
    "f8": np.dtype(ml_dtypes.float8_e4m3fn),
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "c16": np.dtype(np.complex64),
    "c32": np.dtype(np.complex64),
    "c64": np.dtype(np.complex64),
    "c128": np.dtype(np.complex128),
    "bf16": np.dtype(ml_dtypes.bfloat16),
}
#: The real type of the two halves of a complex element.
PARTS = {"c16": "f8", "c32": "f16", "c64": "f32", "c128": "f64"}


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """Turn values into the memory of their dtype: an array of opaque items, of the same shape."""
    if dtype in ("c16", "c32"):
        part = NUMPY[PARTS[dtype]]
        values = np.stack([values.real.astype(part), values.imag.astype(part)], axis=-1)
        return np.ascontiguousarray(values).view(f"V{2 * part.itemsize}")[..., 0]
    values = np.ascontiguousarray(values, NUMPY[dtype])
    return (
        values.view(f"V{values.itemsize}")
        if values.ndim
        else values.reshape(1).view(f"V{values.itemsize}")[0]
    )


def decode(memory: np.ndarray, dtype: str) -> np.ndarray:
    """Turn opaque items back into values."""
    memory = np.ascontiguousarray(memory).reshape(memory.shape)
    if dtype in ("c16", "c32"):
        part = NUMPY[PARTS[dtype]]
        halves = memory.reshape(-1).view(part).astype(np.float32)
        return halves.view(np.complex64).reshape(memory.shape)  # not a + 1j * b: NaN where b is infinite
    return memory.reshape(-1).view(NUMPY[dtype]).reshape(memory.shape)


def itemsize(dtype: str) -> int:
    """Bytes of one element in memory."""
    return 2 * NUMPY[PARTS[dtype]].itemsize if dtype in PARTS else NUMPY[dtype].itemsize


@dataclass(frozen=True)
class Layout:
    """Where the elements of a tensor lie in its storage. Strides, offset and size count elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    size: int

    def __str__(self) -> str:
        strides = "" if "contiguous" in self.traits() else f" strides {list(self.strides)}"
        return f"{list(self.shape)}{strides}"

    def of(self, storage: np.ndarray) -> np.ndarray:
        """View a one-dimensional storage through this layout."""
        strides = [stride * storage.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(storage[self.offset :], self.shape, strides)

    def traits(self) -> set[str]:
        """Name what a kernel may treat in a way of its own; of axes that can step."""
        if 0 in self.shape:
            return {"empty"}
        steps = [step for size, step in zip(self.shape, self.strides, strict=True) if size > 1]
        sizes = [size for size in self.shape if size > 1]
        found = {f"{len(self.shape)} axes"}
        found |= {"repeated"} if 0 in steps else set()
        found |= {"backwards"} if any(step < 0 for step in steps) else set()
        lengths = [abs(step) for step in steps if step]
        found |= {"transposed"} if lengths != sorted(lengths, reverse=True) else set()
        dense = [int(np.prod(sizes[axis + 1 :], dtype=np.int64)) for axis in range(len(sizes))]
        return found | ({"contiguous"} if steps == dense else {"strided"})
