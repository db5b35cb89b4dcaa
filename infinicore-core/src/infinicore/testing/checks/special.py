# Elements that arithmetic treats in a way of its own: NaN, infinities, -0, the largest and smallest number.
# Of operators that take each element by itself; what sums make of them depends on the order.
"""Special elements."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import infinicore as ic
from infinicore.schema import Schema
from infinicore.testing.checks.operators import examine, is_legal
from infinicore.testing.suite import Check, Skip, Target, check_source, draw, rarity

if TYPE_CHECKING:
    from infinicore.testing.strategies import DrawnCall

__all__ = ["elementwise"]

# What a number is converted to, or a power of infinity is, no standard says.
_UNSAID = frozenset(["cast", "pow"])
_FLOATS = ("f32", "f16", "bf16", "f64")


def elementwise(schema: Schema) -> bool:
    """Whether each element of the results depends on the elements in its place, floats among them."""
    places = schema.shape is None and all(len(p.dims) == 1 and p.dims[0].star for p in schema.tensors)
    along_axis = any(p.name in ("axis", "dim") for p in schema.scalars)
    reads = any("f32" in p.dtypes() for p in schema.tensors if p.role != "out")
    return places and reads and not along_axis and schema.name not in _UNSAID


@check_source
def special(target: Target) -> Iterator[Check]:
    """Yield a check per operator."""
    for schema in target.chosen():
        if schema.name in target.native and elementwise(schema):
            yield Check(f"special.{schema.name}", "basic", functools.partial(results, schema=schema))


def is_right(target: Target, call: DrawnCall) -> bool:
    """Whether a call gives what it should; if not, the check of results says so."""
    try:
        examine(target, call)
    except (AssertionError, ic.Error):
        return False
    return True


def results(target: Target, schema: Schema) -> None:
    """Check calls of an operator with special elements among its inputs, in the first dtype that runs."""
    from infinicore.testing.conformance import REFUSALS
    from infinicore.testing.strategies import combinations

    for dtypes in sorted(combinations(schema), key=rarity):
        if not any(dtype in _FLOATS for dtype in dtypes.values()):
            continue
        ran = False
        for number, call in enumerate(draw(schema, target.options, dtypes, special=True)):
            if not is_legal(call):
                continue
            try:
                examine(target, call)
            except REFUSALS:
                continue
            except Exception as error:
                plain = draw(schema, target.options, dtypes)[number]
                raise (error if is_right(target, plain) else Skip("wrong without them, too")) from None
            ran = True
        if ran:
            return
    raise Skip("no drawn call of floats runs")
