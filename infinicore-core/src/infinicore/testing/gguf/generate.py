# Draws cases of an operator from its signature, as the property tests do, brings each into what C functions
# can say, and adds the reference result. Needs hypothesis.
"""Make operator cases."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import hypothesis
import numpy as np

from infinicore.cforms import CForm
from infinicore.errors import Error
from infinicore.schema import OPERATORS, Schema
from infinicore.testing.conformance import reference
from infinicore.testing.gguf import Case, CaseTensor, c_names, c_types, row_major
from infinicore.testing.strategies import DrawnCall, DrawnTensor, calls

__all__ = ["generate"]

_ATTEMPTS = 8  # rounds of drawing, until there are enough cases and one of them repeats elements


def generate(name: str, count: int = 16, seed: int = 0, dimensions: Sequence[int] = ()) -> list[Case]:
    """Draw cases of an operator.

    Parameters
    ----------
    name : str
        As in `infinicore.schema.OPERATORS`.
    count : int
        How many; fewer where the operator has no more that differ. One of them at least repeats elements by
        a stride of 0, where the operator lets an input do so.
    seed : int
        Another one, other cases.
    dimensions : sequence of int
        What the dimensions may be about which the operator says nothing; small numbers by default.
    """
    schema = _callable_from_c(OPERATORS[name])
    cases: dict[str, Case] = {}
    repeated: Case | None = None
    for attempt in range(_ATTEMPTS):
        for call in _drawn(schema, max(8, 4 * count), _ATTEMPTS * seed + attempt, dimensions):
            try:
                case = _case(call)
            except Error:  # drawn for another value than the one that C fixes
                continue
            cases.setdefault(str(case), case)
        repeated = repeated or next(filter(_repeats, cases.values()), None)
        if repeated is not None and len(cases) >= count:
            break
    # An example that hypothesis draws early is a simple one, or empty: take some of every kind.
    every = list(cases.values())
    chosen = every[:: max(1, len(every) // count)][:count]
    if repeated is not None and not any(map(_repeats, chosen)):
        chosen[-1] = repeated
    return chosen


def _repeats(case: Case) -> bool:
    return any(part.repeats for part in case.parts())


def _callable_from_c(schema: Schema) -> Schema:
    """Return the operator with what its C functions cannot be given fixed: defaults, and absent tensors."""
    form = CForm(schema)
    names = c_names(form)
    fixed = {p.name: p.default for p in form.defaulted}
    fixed |= {p.name: None for p in schema.tensors if p.name not in names}
    narrowed = copy.copy(schema)
    said = schema.draw
    narrowed.draw = lambda draw, st: (said(draw, st) if said is not None else {}) | fixed
    return narrowed


def _drawn(schema: Schema, count: int, seed: int, dimensions: Sequence[int]) -> list[DrawnCall]:
    """Let hypothesis draw calls, the same ones for the same seed."""
    found: list[DrawnCall] = []
    sizes = hypothesis.strategies.sampled_from(list(dimensions)) if dimensions else None

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(calls(schema, dimensions=sizes))
    def collect(call: DrawnCall) -> None:
        found.append(call)

    collect()
    return found


def _case(call: DrawnCall) -> Case:
    """Bring a drawn call into what a file says, and calculate its results."""
    schema, form = call.schema, CForm(call.schema)
    names, types = c_names(form), c_types(form)
    for p in schema.scalars:
        final = call.resolved().values[p.index]
        # A C function is given a float.
        call.slots[p.index] = float(np.float32(final)) if types.get(p.name) == "float" else final
    resolved = call.resolved()
    deferred = {p.name for p in form.deferred}  # C gives these as a mere pointer
    operands: dict[str, Any] = {}
    for p in schema.tensors:
        drawn = call.slots[p.index]
        if p.name not in names or drawn is None:
            continue
        if isinstance(drawn, tuple):
            operands[p.name] = tuple(map(_operand, drawn))
        else:
            shape = resolved.specs[p.index].shape if p.index in resolved.expand else None
            operands[p.name] = _operand(drawn, shape, contiguous=p.name in deferred)
    values = {p.name: resolved.values[p.index] for p in schema.scalars if p.name in names}
    expected = {p.name: want for p, want in zip(schema.outputs, reference(call), strict=True)}
    return Case(OPERATORS[schema.name], operands, values, expected)


def _operand(
    drawn: DrawnTensor, shape: tuple[int, ...] | None = None, *, contiguous: bool = False
) -> CaseTensor:
    """Return a tensor as a file says it: broadcast to `shape`, where there is one, by strides of 0."""
    layout = drawn.layout
    sizes, strides, values = layout.shape, layout.strides, drawn.values
    if values is not None:
        first = tuple(slice(0, 1) if step == 0 else slice(None) for step in strides)
        values = values if contiguous else values[first]
    if contiguous:
        strides = row_major(sizes)
    if shape is not None and shape != sizes:
        assert values is not None
        missing = len(shape) - len(sizes)
        grown = (1,) * missing + sizes
        steps = (0,) * missing + strides
        strides = tuple(0 if old != new else step for old, new, step in zip(grown, shape, steps, strict=True))
        values = values.reshape((1,) * missing + values.shape)
        sizes = shape
    # Where nothing can step, a stride says nothing.
    strides = row_major(sizes) if 0 in sizes else strides
    if values is not None and 0 in sizes:
        values = np.empty(sizes, values.dtype)
    return CaseTensor(drawn.dtype, tuple(sizes), tuple(strides), values)
