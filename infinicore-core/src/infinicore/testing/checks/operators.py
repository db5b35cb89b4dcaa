# Every operator in every combination of dtypes that its signature allows, with drawn shapes, strides and
# aliasing, against its reference in float64. A combination that a device refuses is reported, not failed.
"""Results of operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import infinicore as ic
from infinicore.schema import Schema
from infinicore.testing.suite import NEEDS_HYPOTHESIS, Check, Skip, Target, check_source

if TYPE_CHECKING:
    from infinicore.testing.strategies import DrawnCall

__all__ = ["coverage", "label"]


def label(dtypes: dict[str, str]) -> str:
    """Write a combination of dtypes in the order of the signature: ``f16-i32``; "any" where there is one."""
    return "-".join(dtypes.values()) or "any"


@check_source
def results(target: Target) -> Iterator[Check]:
    """Yield a check per operator and combination of dtypes."""
    try:
        from infinicore.testing.strategies import combinations
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        yield Check("operators.all", "basic", _cannot)
        return
    for schema in target.chosen():
        for dtypes in combinations(schema):
            yield Check(f"operators.{schema.name}.{label(dtypes)}", "basic", _body(schema, dtypes))


def _cannot(target: Target) -> None:
    raise Skip(NEEDS_HYPOTHESIS)


def _body(schema: Schema, dtypes: dict[str, str]) -> Callable[[Target], dict[str, Any]]:
    return lambda target: coverage(target, schema, dtypes)


def coverage(target: Target, schema: Schema, dtypes: dict[str, str]) -> dict[str, Any]:
    """Check an operator in one combination of dtypes.

    Returns
    -------
    dict
        ``state``: "native" (a kernel gave right results), "reference" (the NumPy body did, on the CPU),
        "partial" (some layouts are refused), "refused" (all are) or "absent" (there is no kernel);
        ``calls``: how many ran; ``ulps``: how far their worst element lies from the reference.

    Raises
    ------
    AssertionError
        A result is wrong; the message shows a small call where one is found.
    """
    if target.name != "cpu" and schema.name not in target.native:
        return {"state": "absent", "calls": 0, "ulps": 0.0}
    from infinicore.testing.conformance import REFUSALS

    ran, refused, worst = 0, 0, 0.0
    before = bodies_run(schema.name)
    for call in legal(target, schema, dtypes):
        try:
            worst = max(worst, examine(target, call))
            ran += 1
        except REFUSALS:
            refused += 1
        except Exception as error:
            raise smaller(target, schema, dtypes, error) from None
    assert ran or refused, f"no drawn call of {schema.name} is legal with {label(dtypes)}"
    if not ran:
        state = "refused"
    elif refused:
        state = "partial"
    else:
        state = "reference" if bodies_run(schema.name) > before else "native"
    return {"state": state, "calls": ran, "ulps": round(worst, 3)}


def bodies_run(name: str) -> int:
    """Count how often the NumPy body of an operator has run in place of a kernel."""
    return ic.fallback_counts().get((name, "cpu"), 0)


def examine(target: Target, call: DrawnCall) -> float:
    """Run one call and compare it with the reference, within the tolerances of the backend."""
    from infinicore.testing.conformance import check
    from infinicore.testing.tolerance import tolerance

    known = target.known
    return check(call, target.device, tolerances=tolerance if known is None else known.tolerance)


def legal(target: Target, schema: Schema, dtypes: dict[str, str]) -> Iterator[DrawnCall]:
    """Yield the drawn calls in these dtypes; drawn for them alone where the shared ones do not allow them."""
    from infinicore.testing.suite import draw

    found = False
    for call in target.drawn(schema.name):
        retyped = call.retyped(dtypes)
        if is_legal(retyped):
            found = True
            yield retyped
    if not found:
        yield from filter(is_legal, draw(schema, target.options, dtypes))


def is_legal(call: DrawnCall) -> bool:
    """Whether the signature takes the call, scalars included."""
    try:
        call.resolved()
    except ic.Error:
        return False
    return True


def smaller(target: Target, schema: Schema, dtypes: dict[str, str], error: Exception) -> Exception:
    """Look for a small call that fails, once per operator; the error as it was where none is found."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    from infinicore.testing.conformance import REFUSALS
    from infinicore.testing.strategies import calls

    if schema.name in _SHRUNK:
        return error
    _SHRUNK.add(schema.name)

    @seed(target.options.seed)
    @settings(
        max_examples=30,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(calls(schema, dtypes=dtypes))
    def again(call: DrawnCall) -> None:
        try:
            examine(target, call)
        except REFUSALS:
            pass

    try:
        again()
    except AssertionError as found:
        return found
    except Exception:  # another one, or one that comes and goes: the first says more
        return error
    return error


_SHRUNK: set[str] = set()
