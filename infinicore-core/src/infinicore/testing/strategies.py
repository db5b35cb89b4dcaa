# Hypothesis strategies read from operator schemas: whole calls, with shapes, layouts, dtypes, scalars and
# aliasing. A drawn call holds NumPy data only; conformance.py puts it on a device and runs it.
"""Draw calls of operators."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from infinicore.errors import DTypeError
from infinicore.schema import (
    DTYPES,
    EMPTY,
    VARIABLES,
    CallParameter,
    Dim,
    Elements,
    Parameter,
    Resolved,
    Schema,
    Spec,
    Values,
)
from infinicore.testing.elements import NUMPY, PARTS, Layout, decode, encode, itemsize

__all__ = [
    "NUMPY",
    "PARTS",
    "DrawnCall",
    "DrawnTensor",
    "Layout",
    "calls",
    "combinations",
    "counted",
    "decode",
    "encode",
    "itemsize",
    "layouts",
    "sizes",
    "tensors",
]

GUARD = 5  # elements around a drawn tensor that nothing may touch


# ---- what is drawn -------------------------------------------------------------------------------


@dataclass(repr=False)
class DrawnTensor:
    """A tensor: its layout and, unless an operator is to write it first, its values."""

    dtype: str
    layout: Layout
    values: np.ndarray | None
    #: Makes the values again, for another dtype.
    make: Callable[[str], np.ndarray] | None = None

    def retyped(self, dtype: str) -> DrawnTensor:
        """Return the tensor as it would have been drawn with another dtype: the same layout, new values."""
        return DrawnTensor(dtype, self.layout, self.make(dtype) if self.make is not None else None, self.make)

    def __repr__(self) -> str:
        return f"{self.dtype}{self.layout}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # hypothesis would print every value

    @property
    def spec(self) -> Spec:
        """Shape and dtype."""
        return Spec(self.layout.shape, self.dtype)


def spec(value: Any) -> Any:
    """Return what `Schema.resolve` takes for a slot: shape and dtype of tensors, scalars as they are."""
    if isinstance(value, DrawnTensor):
        return value.spec
    if isinstance(value, tuple) and value and isinstance(value[0], DrawnTensor):
        return tuple(item.spec for item in value)
    return value


@dataclass
class DrawnCall:
    """One call: an entry per slot (DrawnTensor, tuple of them, scalar, or None)."""

    schema: Schema
    slots: list[Any]
    give_out: bool  # out= is given; otherwise the operator allocates
    alias: dict[int, int]  # output slot -> the input slot whose very tensor is given

    def resolved(self) -> Resolved:
        """Return what the signature makes of the call: final values, and full shapes of what broadcasts."""
        return self.schema.resolve([spec(value) for value in self.slots])

    def retyped(self, dtypes: dict[str, str]) -> DrawnCall:
        """Return the call as it would have been drawn with other dtypes.

        Parameters
        ----------
        dtypes
            Dtype word of the signature -> short name, as `combinations` gives them. Whether the operator
            takes its other arguments with them too, `resolved` says.
        """
        made: dict[tuple[int, str], DrawnTensor] = {}  # one tensor in two slots stays one

        def convert(parameter: Parameter, value: Any) -> Any:
            if value is None or parameter.dtype not in dtypes:
                return value
            dtype = dtypes[parameter.dtype]
            if isinstance(value, tuple):
                return tuple(item.retyped(dtype) for item in value)
            return made.setdefault((id(value), dtype), value.retyped(dtype))

        slots = [convert(p, value) for p, value in zip(self.schema.parameters, self.slots, strict=True)]
        same = {out: given for out, given in self.alias.items() if slots[out].dtype == slots[given].dtype}
        # Where no input that is there says the dtype of an output, giving the output does.
        said = {p.dtype for p in self.schema.tensors if p.role != "out" and slots[p.index] is not None}
        chosen = any(p.dtype in dtypes and p.dtype not in said for p in self.schema.outputs)
        return DrawnCall(self.schema, slots, self.give_out or chosen, same)

    def __repr__(self) -> str:
        words = [f"{p.name}={value!r}" for p, value in zip(self.schema.parameters, self.slots, strict=True)]
        names = self.schema.parameters
        same = [*self.alias.items(), *shared(self.slots)]
        words += [f"<{names[out].name} is {names[given].name}>" for out, given in same]
        return f"{self.schema.name}({', '.join(words)}{'' if self.give_out else ', <out allocated>'})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


def shared(slots: list[Any]) -> list[tuple[int, int]]:
    """List the slots that hold the very tensor of an earlier one, each with that one."""
    first: dict[int, int] = {}
    tensors = [(i, value) for i, value in enumerate(slots) if isinstance(value, DrawnTensor)]
    return [(i, first[id(value)]) for i, value in tensors if first.setdefault(id(value), i) != i]


# ---- tensors -------------------------------------------------------------------------------------


def sizes() -> st.SearchStrategy[int]:
    """Draw the size of one dimension: mostly small, also zero and both sides of vector widths."""
    return st.sampled_from((1, 2, 3, 5, 4, 0, 7, 8, 13, 16, 17, 31, 33))


@st.composite
def layouts(draw: st.DrawFn, shape: tuple[int, ...], *, writable: bool = False) -> Layout:
    """Draw strides for a shape: contiguous, padded, transposed, negative or, where nobody writes, zero."""
    rank = len(shape)
    kinds = ["contiguous", "padded", "transposed", "negative", "mixed"] + ([] if writable else ["zero"])
    kind = draw(st.sampled_from(kinds)) if rank else "contiguous"
    order = list(range(rank))
    if kind in ("transposed", "mixed"):
        order = list(draw(st.permutations(order)))
    padded = kind in ("padded", "mixed")
    negative = (
        set(draw(st.sets(st.sampled_from(range(rank)), min_size=1))) if kind in ("negative", "mixed") else ()
    )
    least = 1 if kind == "zero" else 0
    repeats = kind == "zero" or (kind == "mixed" and not writable)
    zero = set(draw(st.sets(st.sampled_from(range(rank)), min_size=least))) if repeats else ()

    strides, step = [0] * rank, draw(st.sampled_from([1, 2])) if padded else 1
    for axis in reversed(order):
        if axis in zero:
            continue
        strides[axis] = step
        step *= max(shape[axis], 1) + (draw(st.integers(0, 3)) if padded else 0)
    offset = GUARD
    for axis in negative:
        offset += max(shape[axis] - 1, 0) * strides[axis]
        strides[axis] = -strides[axis]
    return Layout(tuple(shape), tuple(strides), offset, step + 2 * GUARD)


def _numbers(
    seed: int, shape: tuple[int, ...], dtype: str, elements: Elements | None, wide: bool, special: bool
) -> np.ndarray:
    """Make values of a dtype: small, so that products do not overflow, or (integers) over the whole range."""
    random = np.random.default_rng(seed)
    kind = NUMPY[dtype].kind
    if dtype == "bool":
        return random.integers(0, 2, shape).astype(bool)
    if kind in "iu":
        whole = np.iinfo(NUMPY[dtype])
        if elements is not None:
            bounds = max(whole.min, math.ceil(elements.low)), min(whole.max, math.floor(elements.high))
        else:
            bounds = (whole.min, whole.max) if wide else (max(whole.min, -9), 9)
        return random.integers(*bounds, shape, NUMPY[dtype], endpoint=True)
    low, high = (elements.low, elements.high) if elements is not None else (-3.0, 3.0)
    values = random.uniform(low, high, shape)
    if kind == "c":
        values = values + 1j * random.uniform(low, high, shape)
        if dtype in ("c16", "c32"):
            return decode(encode(values, dtype), dtype)
    elif special:
        info = ml_dtypes.finfo(NUMPY[dtype])
        numbers = [np.nan, np.inf, -np.inf, -0.0, float(info.max), float(info.smallest_subnormal)]
        values = np.where(random.random(shape) < 0.15, random.choice(numbers, shape), values)
    return values.astype(NUMPY[dtype])


@st.composite
def tensors(
    draw: st.DrawFn,
    shape: tuple[int, ...],
    dtype: str,
    *,
    elements: Elements | Values | None = None,
    written: bool = False,
    valued: bool = True,
    special: bool = False,
) -> DrawnTensor:
    """Draw a tensor of a shape and dtype (short name).

    Parameters
    ----------
    elements
        Bounds of the values, or the values themselves.
    written
        An operator writes it: no two indices may share memory.
    valued
        False for what is written before it is read.
    special
        Put NaN, infinities, negative zero and the dtype's extremes among floating-point values.
    """
    own_values = isinstance(elements, Values)  # of which each element needs a place of its own
    layout = draw(layouts(shape, writable=written or own_values))
    if not valued:
        return DrawnTensor(dtype, layout, None)
    # Elements that share memory hold one value: make the values of one and repeat them.
    own = tuple(1 if stride == 0 else size for size, stride in zip(shape, layout.strides, strict=True))
    seed, wide = (0, False) if own_values else (draw(st.integers(0, 2**32 - 1)), draw(st.booleans()))

    def make(dtype: str) -> np.ndarray:
        if isinstance(elements, Values):
            return np.array(elements.items, NUMPY[dtype]).reshape(shape)
        return np.broadcast_to(_numbers(seed, own, dtype, elements, wide, special), shape)

    return DrawnTensor(dtype, layout, make(dtype), make)


# ---- calls ---------------------------------------------------------------------------------------


def combinations(schema: Schema) -> Iterator[dict[str, str]]:
    """Yield every combination of dtypes that a signature allows: its dtype words -> short names.

    Words that stand for one dtype only are left out; the order is that of the signature.
    """
    words = {p.dtype: p.dtypes() for p in schema.tensors if len(p.dtypes()) > 1}
    for choice in itertools.product(*words.values()):
        yield dict(zip(words, choice, strict=True))


class _Symbols:
    """What the symbols of one call stand for: dimensions and dtypes, drawn when first asked for."""

    def __init__(
        self,
        draw: st.DrawFn,
        schema: Schema,
        given: dict[str, Any],
        dtypes: dict[str, str],
        dimensions: st.SearchStrategy[int],
    ) -> None:
        self.draw, self.given, self.dtypes, self.dimensions = draw, dict(given), dict(dtypes), dimensions
        every = [dim for p in schema.tensors for dim in p.dims]
        self.multiple = {d.name: d.divisor for d in every if d.divisor > 1}

    def size(self, dim: Dim) -> int:
        if dim.number is not None:
            return dim.number
        if dim.name not in self.given:
            multiple = self.multiple.get(dim.name, 1)
            self.given[dim.name] = multiple * self.draw(self.dimensions)
        return self.given[dim.name] // dim.divisor

    def shape(self, parameter: Parameter) -> tuple[int, ...]:
        shape: tuple[int, ...] = ()
        for dim in parameter.dims:
            if dim.star:
                if dim.name not in self.given:
                    # Several large dimensions together would only cost time.
                    rank = self.draw(st.sampled_from((2, 1, 3, 0)))  # as often: of 0-d few calls say all
                    drawn = [self.draw(self.dimensions) for _ in range(rank)]
                    self.given[dim.name] = (
                        tuple(min(size, 7) for size in drawn) if drawn[1:] else tuple(drawn)
                    )
                shape += tuple(self.given[dim.name])
            else:
                shape += (self.size(dim),)
        return shape

    def dtype(self, parameter: Parameter) -> str:
        choices = parameter.dtypes()
        if len(choices) == 1 and choices[0] == parameter.dtype:
            return choices[0]
        if parameter.dtype not in self.dtypes:
            self.dtypes[parameter.dtype] = self.draw(st.sampled_from(choices))
        return self.dtypes[parameter.dtype]


def _scalar(draw: st.DrawFn, parameter: Parameter) -> Any:
    """Draw a scalar about which the operator said nothing."""
    default = parameter.default
    if parameter.kind == "bool":
        return draw(st.booleans())
    if parameter.kind == "enum":
        return draw(st.sampled_from(list(parameter.enum)))
    if parameter.kind == "dtype":
        return draw(st.sampled_from(list(DTYPES)))
    if parameter.kind == "float":
        if parameter.name.startswith("eps"):
            return draw(st.sampled_from([default, 1e-3, 1e-6]))
        return draw(st.sampled_from(([] if default is EMPTY else [default]) + [1.0, 0.0, -0.5, 2.0]))
    if default is not EMPTY:
        return default
    raise TypeError(
        f"nothing says how to draw the {parameter.kind} {parameter.name}: give the operator draw="
    )


def _narrowed(draw: st.DrawFn, parameter: Parameter, shape: tuple[int, ...], keep: bool) -> tuple[int, ...]:
    """Draw a shape that broadcasts to `shape` where the signature says ``~``."""
    if keep or not any(dim.broadcast for dim in parameter.dims) or not draw(st.booleans()):
        return shape
    starred = [dim for dim in parameter.dims if dim.star and dim.broadcast]
    fixed = sum(not dim.star for dim in parameter.dims)
    axes: list[int] = []
    if starred:
        first = [dim.star for dim in parameter.dims].index(True)
        axes += range(first, first + len(shape) - fixed)
    position = 0
    for dim in parameter.dims:
        if dim.star:
            position += len(shape) - fixed
            continue
        if dim.broadcast:
            axes.append(position)
        position += 1
    ones = draw(st.sets(st.sampled_from(axes))) if axes else set()
    result = [1 if axis in ones else size for axis, size in enumerate(shape)]
    if starred and starred[0] is parameter.dims[0]:
        result = result[draw(st.integers(0, len(shape) - fixed)) :]
    return tuple(result)


def _is_given(draw: st.DrawFn, parameter: Parameter, said: dict[str, Any]) -> bool:
    """Draw whether an optional tensor is there, unless the operator said it."""
    if parameter.name in said and said[parameter.name] is None:
        return False
    return isinstance(said.get(parameter.name), Values) or draw(st.booleans())


@st.composite
def calls(
    draw: st.DrawFn,
    schema: Schema,
    *,
    dtypes: dict[str, str] | None = None,
    dimensions: st.SearchStrategy[int] | None = None,
    special: bool = False,
) -> DrawnCall:
    """Draw a call of an operator that its signature allows.

    Parameters
    ----------
    schema
        The operator.
    dtypes
        Dtype word -> short name, to fix some: ``{"F": "bf16"}``. An output whose dtype nothing else says is
        given then.
    dimensions
        Draws the dimensions about which the operator says nothing; `sizes` when absent.
    special
        As in `tensors`.
    """
    said = schema.draw(draw, st) if schema.draw is not None else {}
    said_dtypes = {name: said[name] for name in VARIABLES if name in said}
    fixed = said_dtypes | (dtypes or {})
    symbols = _Symbols(draw, schema, said, fixed, sizes() if dimensions is None else dimensions)
    slots: list[Any] = [None] * len(schema.parameters)
    for p in schema.scalars:
        if p.name in said:
            slots[p.index] = said[p.name]
        elif p.kind == "int" and any(dim.name == p.name for t in schema.tensors for dim in t.dims):
            slots[p.index] = symbols.size(Dim(p.name))
        else:
            slots[p.index] = _scalar(draw, p)

    broadcasting = [p.index for p in schema.tensors if p.role == "in" and any(d.broadcast for d in p.dims)]
    keeper = draw(st.sampled_from(broadcasting)) if broadcasting else None
    for p in schema.tensors:
        if p.role == "out" or (p.optional and not _is_given(draw, p, said)):
            continue
        dtype, elements = symbols.dtype(p), said.get(p.name)
        written = p.role == "inout"
        if p.kind == "tensors":
            shapes = said[p.name]
            drawn = [draw(tensors(tuple(shape), dtype, special=special)) for shape in shapes]
            slots[p.index] = tuple(drawn)
            continue
        shape = _narrowed(draw, p, symbols.shape(p), keep=written or p.index == keeper)
        # One tensor may stand for two inputs about whose values the operator says nothing.
        twins = [
            slots[q.index]
            for q in schema.tensors[: schema.tensors.index(p)]
            if q.role == p.role == "in" and q.kind == "tensor" and q.name not in said and p.name not in said
            if slots[q.index] is not None and slots[q.index].spec == Spec(shape, dtype)
        ]
        if twins and draw(st.integers(0, 3)) == 3:
            slots[p.index] = twins[0]
        else:
            slots[p.index] = draw(tensors(shape, dtype, elements=elements, written=written, special=special))

    return draw(_completed(schema, slots, symbols.dtypes, dtypes or {}))


def counted(schema: Schema, slots: list[Any], specs: list[Any]) -> list[Any]:
    """Add the outputs whose size depends on elements: they are resolved like outputs that were given."""
    assert schema.count is not None
    names = schema.count.__code__.co_varnames[: schema.count.__code__.co_argcount]
    symbols = schema.count(**{name: slots[schema.by_name[name].index].values for name in names})
    dtypes = {p.dtype: specs[p.index].dtype for p in schema.tensors if p.role != "out"}
    return [
        Spec([symbols[dim.name] for dim in p.dims], dtypes.get(p.dtype, p.dtype)) if p.role == "out" else spec
        for p, spec in zip(schema.parameters, specs, strict=True)
    ]


@st.composite
def _completed(
    draw: st.DrawFn, schema: Schema, slots: list[Any], dtypes: dict[str, str], asked: dict[str, str]
) -> DrawnCall:
    """Add the outputs: allocated by the operator, given, or one of the inputs."""
    outs = [p for p in schema.parameters if p.role == "out"]
    specs = [spec(value) for value in slots]
    given = draw(st.booleans()) or not any(cp.slot == CallParameter.OUT for cp in schema.call.parameters)
    # A dtype that no input fixes is the caller's choice, made by giving the output.
    fixed = {p.dtype for p in schema.tensors if p.role != "out"}
    for p in outs:
        if p.dtype in fixed or p.dtypes() == (p.dtype,):
            continue
        if not (given or schema.shape is None or p.dtype in asked):
            continue
        if schema.shape is not None:
            shape = schema.resolve(specs).specs[p.index].shape
        else:
            like = next(q for q in schema.tensors if q.role != "out" and q.shape_text == p.shape_text)
            shape = slots[like.index].layout.shape
        specs[p.index] = Spec(shape, dtypes.get(p.dtype) or draw(st.sampled_from(p.dtypes())))
        given = True
    if schema.count is not None:
        specs = counted(schema, slots, specs)
    try:
        resolved = schema.resolve(specs)
    except DTypeError:
        if not asked:  # what is drawn freely is legal
            raise
        reject()  # a scalar does not take the dtypes that were asked for
    alias: dict[int, int] = {}
    for p in outs:
        own = resolved.specs[p.index]
        slots[p.index] = draw(tensors(own.shape, own.dtype, written=True, valued=False))
        candidates = [
            i.index
            for i in schema.tensors
            if i.name in schema.inplace
            and slots[i.index] is not None
            and specs[i.index] == own
            and id(slots[i.index]) not in {id(slots[taken]) for taken in alias.values()}
            and 0 not in slots[i.index].layout.strides
        ]
        if given and candidates and draw(st.booleans()):
            alias[p.index] = draw(st.sampled_from(candidates))
    return DrawnCall(schema, slots, given, alias)
