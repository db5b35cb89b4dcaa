# Operator cases in files of the GGUF format: inputs, layouts, attributes and expected result of each call.
# `generate` draws them from signatures; `run` (the command infiniop-test) checks a library with them.
"""Operator cases in GGUF files.

A file holds, for each of its ``test_count`` cases ``i``, the operator ``test.<i>.op_name``, an attribute
``test.<i>.<name>`` per value, and a tensor ``test.<i>.<name>`` per operand, named as the C function names its
arguments. ``test.<i>.ans`` is the expected result in float64 (of further outputs: ``ans_<name>``).

- ``<tensor>.strides`` is the layout that the operator is given, where that is not contiguous, and of every
  output.
- ``<tensor>.shape`` is its shape, where the file stores another: elements that share memory (stride 0) are
  stored once, an output is stored empty, and GGUF has no more than four dimensions.
- ``<tensor>.ndim`` is 0 for a scalar, whose shape would be an empty array.
- ``<tensor>.dtype`` is the element type where GGUF has none such: the elements are then stored as bytes.

Shapes and strides are written innermost dimension first, as GGUF does.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infinicore.cforms import CForm
from infinicore.schema import OPERATORS, Parameter, Schema, Spec
from infinicore.testing.elements import NUMPY, Layout, decode, encode, itemsize

__all__ = ["ARCHITECTURE", "Case", "CaseTensor", "read", "write"]

ARCHITECTURE = "infiniop-test"

# The element types that GGUF has, and what it calls them.
_NATIVE = {
    "i8": "I8",
    "i16": "I16",
    "i32": "I32",
    "i64": "I64",
    "f16": "F16",
    "bf16": "BF16",
    "f32": "F32",
    "f64": "F64",
}
_EXACT_IN_F64 = 2**53


@dataclass
class CaseTensor:
    """One operand.

    Attributes
    ----------
    dtype : str
        Short name.
    shape, strides : tuple of int
        In elements.
    values : numpy.ndarray or None
        Of size 1 where the stride is 0; None for what an operator writes and does not read.
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    values: np.ndarray | None = field(repr=False)

    @property
    def spec(self) -> Spec:
        """Shape and element type."""
        return Spec(self.shape, self.dtype)

    @property
    def layout(self) -> Layout:
        """Where the elements lie in the smallest storage that holds them."""
        steps = [(size - 1) * step for size, step in zip(self.shape, self.strides, strict=True)]
        offset = -sum(step for step in steps if step < 0)
        span = 1 + offset + sum(step for step in steps if step > 0) if 0 not in self.shape else 0
        return Layout(self.shape, self.strides, offset if span else 0, span)

    @property
    def repeats(self) -> bool:
        """Whether several indices share an element."""
        return any(step == 0 and size > 1 for size, step in zip(self.shape, self.strides, strict=True))

    def __str__(self) -> str:
        contiguous = self.strides == row_major(self.shape)
        return f"{self.dtype}{list(self.shape)}" + ("" if contiguous else f" strides {list(self.strides)}")


@dataclass
class Case:
    """One call of an operator through its C functions.

    Attributes
    ----------
    schema : Schema
    operands : dict of str to CaseTensor or tuple of CaseTensor
        By slot; an optional tensor may be missing.
    values : dict of str to value
        The scalars that the C functions take, by slot.
    expected : dict of str to numpy.ndarray
        By output slot.
    """

    schema: Schema
    operands: dict[str, Any]
    values: dict[str, Any]
    expected: dict[str, np.ndarray] = field(repr=False)

    def __str__(self) -> str:
        names = c_names(CForm(self.schema))
        words = []
        for slot, value in self.operands.items():
            text = "[" + ", ".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)
            words.append(f"{names[slot]}={text}")
        words += [f"{names[slot]}={value!r}" for slot, value in self.values.items()]
        return f"{self.schema.name}({', '.join(words)})"

    def parts(self) -> list[CaseTensor]:
        """List all operands, those of lists one by one."""
        found: list[CaseTensor] = []
        for operand in self.operands.values():
            found += operand if isinstance(operand, tuple) else (operand,)
        return found

    def specs(self) -> list[Any]:
        """List what `Schema.resolve` takes."""
        found: list[Any] = []
        for p in self.schema.parameters:
            if p.is_tensor:
                operand = self.operands.get(p.name)
                if isinstance(operand, tuple):
                    found.append(tuple(part.spec for part in operand))
                else:
                    found.append(None if operand is None else operand.spec)
            else:
                found.append(self.values.get(p.name, p.default))
        return found


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def c_names(form: CForm) -> dict[str, str]:
    """Map each slot that a C form takes to what it is called in a file."""
    names = {}
    for argument in form.create:
        if argument.slot is not None:
            names[argument.slot.name] = argument.name.removesuffix("_desc")
    for argument in form.execute:
        if argument.slot is not None:
            names[argument.slot.name] = argument.name
    return names


def c_types(form: CForm) -> dict[str, str]:
    """Map each slot that a C form takes to its C type, without ``const``."""
    arguments = [*form.create, *form.execute]
    return {a.slot.name: a.type.removeprefix("const ") for a in arguments if a.slot is not None}


def library() -> Any:
    """Import PyPI's gguf.

    Raises
    ------
    ModuleNotFoundError
        Says how to install it.
    """
    try:
        return importlib.import_module("gguf")
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "files of operator cases need the package gguf: pip install infinicore-core[gguf]"
        ) from None


# ---- writing -----------------------------------------------------------------------------------------------


def write(path: str | os.PathLike[str], cases: Sequence[Case]) -> None:
    """Write cases to a file."""
    writer = library().GGUFWriter(os.fspath(path), ARCHITECTURE)
    writer.add_uint64("test_count", len(cases))
    for index, case in enumerate(cases):
        _CaseWriter(writer, f"test.{index}").write(case)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class _CaseWriter:
    """Writes the entries of one case."""

    def __init__(self, writer: Any, prefix: str) -> None:
        self.writer, self.prefix = writer, prefix

    def write(self, case: Case) -> None:
        form = CForm(case.schema)
        names, types = c_names(form), c_types(form)
        self.writer.add_string(f"{self.prefix}.op_name", case.schema.name)
        for slot, value in case.values.items():
            self.attribute(f"{self.prefix}.{names[slot]}", types[slot], value)
        for slot, operand in case.operands.items():
            if isinstance(operand, tuple):
                for number, part in enumerate(operand):
                    self.tensor(f"{self.prefix}.{names[slot]}.{number}", part)
            else:
                self.tensor(f"{self.prefix}.{names[slot]}", operand)
        for number, p in enumerate(case.schema.outputs):
            name = f"ans_{names[p.name]}" if number else "ans"
            self.tensor(f"{self.prefix}.{name}", _answer(case.expected[p.name]))

    def attribute(self, key: str, c_type: str, value: Any) -> None:
        if isinstance(value, tuple):
            self.writer.add_array(key, list(value))  # an empty one is not written
            return
        add = {
            "bool": self.writer.add_bool,
            "float": self.writer.add_float32,
            "int64_t": self.writer.add_int64,
            "size_t": self.writer.add_uint64,
        }.get(c_type, self.writer.add_int32)
        add(key, value)

    def tensor(self, name: str, tensor: CaseTensor) -> None:
        values = tensor.values
        stored = np.empty((0,), NUMPY[tensor.dtype]) if values is None else values
        gguf_type = _NATIVE.get(tensor.dtype)
        if gguf_type is None:
            self.writer.add_string(f"{name}.dtype", tensor.dtype)
            stored = encode(stored, tensor.dtype).reshape(-1).view(np.int8)
        elif not 1 <= stored.ndim <= 4:
            stored = stored.reshape(-1)
        if stored.shape != tensor.shape:
            self.sizes(f"{name}.shape", tensor.shape)
        if values is None or tensor.strides != row_major(tensor.shape):
            self.sizes(f"{name}.strides", tensor.strides)
        if not tensor.shape:
            self.writer.add_uint32(f"{name}.ndim", 0)
        stored = np.ascontiguousarray(stored)
        if gguf_type == "BF16":
            stored = stored.view(np.uint16)
        types = library().GGMLQuantizationType
        self.writer.add_tensor(name, stored, raw_dtype=types[gguf_type or "I8"])

    def sizes(self, key: str, numbers: Sequence[int]) -> None:
        self.writer.add_array(key, [int(number) for number in reversed(numbers)])


def _answer(values: np.ndarray) -> CaseTensor:
    """Return an expected result in float64, unless float64 cannot hold it."""
    dtype = "f64"
    if values.dtype.kind == "c":
        dtype = "c128"
    elif (
        values.dtype.kind in "iu"
        and values.size
        and max(-int(values.min()), int(values.max())) > _EXACT_IN_F64
    ):
        dtype = "u64" if values.dtype.kind == "u" else "i64"
    return CaseTensor(dtype, values.shape, row_major(values.shape), values.astype(NUMPY[dtype]))


# ---- reading -----------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str]) -> list[Case]:
    """Read the cases of a file.

    Raises
    ------
    ValueError
        The file holds no operator cases, names an unknown operator, or lacks an operand.
    """
    return _Reader(path).cases()


class _Reader:
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        reader = library().GGUFReader(self.path)
        self.fields = reader.fields
        self.types = {getattr(library().GGMLQuantizationType, name): short for short, name in _NATIVE.items()}
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}

    def cases(self) -> list[Case]:
        if self.value("general.architecture") != ARCHITECTURE:
            raise ValueError(f"{self.path} holds no operator cases: its architecture is not {ARCHITECTURE}")
        return [self.case(f"test.{index}") for index in range(self.value("test_count"))]

    def value(self, key: str) -> Any:
        """Return a metadata value: int, float, bool, str or tuple; None where there is none."""
        if key not in self.fields:
            return None
        entry = self.fields[key]
        if entry.types[0].name == "STRING":
            return bytes(entry.parts[entry.data[0]]).decode()
        numbers = tuple(entry.parts[part][0].item() for part in entry.data)
        return numbers if entry.types[0].name == "ARRAY" else numbers[0]

    def case(self, prefix: str) -> Case:
        name = self.value(f"{prefix}.op_name")
        if name not in OPERATORS:
            raise ValueError(f"{self.path}: {prefix}.op_name is {name!r}, which is no operator")
        schema = OPERATORS[name]
        form = CForm(schema)
        names = c_names(form)
        values = {}
        for p in schema.scalars:
            if p.name in names:
                value = self.value(f"{prefix}.{names[p.name]}")
                if value is None:
                    value = () if p.kind == "ints" else p.default
                # C has no bool everywhere: an int stands for it.
                values[p.name] = schema.convert(p, bool(value) if p.kind == "bool" else value)
        expected, operands = {}, {}
        for number, p in enumerate(schema.outputs):
            key = f"{prefix}.ans" + (f"_{names[p.name]}" if number else "")
            if key not in self.tensors:
                raise ValueError(f"{self.path} has no tensor {key}")
            answer = self.tensor(key).values
            assert answer is not None
            expected[p.name] = answer
        for p in schema.tensors:
            if p.name in names and (operand := self.operand(prefix, names[p.name], p)) is not None:
                operands[p.name] = operand
        return Case(schema, operands, values, expected)

    def operand(self, prefix: str, name: str, p: Parameter) -> Any:
        if p.kind == "tensors":
            parts: list[CaseTensor] = []
            while f"{prefix}.{name}.{len(parts)}" in self.tensors:
                parts.append(self.tensor(f"{prefix}.{name}.{len(parts)}"))
            return tuple(parts)
        for key in (f"{prefix}.{name}", f"{prefix}.{p.name}"):  # as C, or as the signature, calls it
            if key in self.tensors:
                return self.tensor(key)
        if not p.optional:
            raise ValueError(f"{self.path} has no tensor {prefix}.{name}")
        return None

    def tensor(self, key: str) -> CaseTensor:
        stored = self.tensors[key]
        own = self.value(f"{key}.dtype")
        dtype = own or self.types.get(stored.tensor_type)
        if dtype is None:
            raise ValueError(
                f"{self.path}: {key} has type {stored.tensor_type.name}, which is no element type"
            )
        shape = tuple(int(size) for size in reversed(stored.shape))
        given = self.value(f"{key}.shape")
        if self.value(f"{key}.ndim") == 0:
            shape = ()
        elif given is not None:
            shape = tuple(reversed(given))
        strides = self.value(f"{key}.strides")
        strides = row_major(shape) if strides is None else tuple(reversed(strides))
        memory = np.array(stored.data).reshape(-1).view(f"V{itemsize(dtype)}")
        logical = tuple(1 if step == 0 else size for size, step in zip(shape, strides, strict=True))
        values = decode(memory.reshape(logical), dtype) if memory.size == _count(logical) else None
        if values is None and memory.size:
            raise ValueError(f"{self.path}: {key} holds {memory.size} elements, not those of shape {logical}")
        return CaseTensor(dtype, shape, strides, values)


def _count(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))
