# The conformance suite on the CUDA double: every operator of the plug-in against its float64 reference.
# A result of the double is about the text of kernels and calls; it says nothing about silicon.
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import infinicore as ic
from infinicore.schema import OPERATORS
from infinicore.testing import known_failures
from infinicore.testing.conformance import check
from infinicore.testing.strategies import DrawnTensor, calls

# Element types that arithmetic may lack on a device. What only moves data has no such excuse.
EXOTIC = {"byte", "bool", "f8", "c16", "c32", "c64", "c128"}
PACKAGE = Path(__file__).parents[3] / "infinicore-cuda" / "src" / "infinicore_cuda"
KNOWN = known_failures.load(PACKAGE / known_failures.FILE)


def parameters() -> list[object]:
    reasons = {name: KNOWN.reason(f"operators.{name}") for name in sorted(OPERATORS)}
    mark = lambda reason: [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
    return [pytest.param(name, marks=mark(reason)) for name, reason in reasons.items()]


def test_the_double_is_what_is_tested() -> None:
    assert ic.backends["cuda"].devices[0]["name"] == "CUDA double 0"
    assert ic.backends["cuda"].version == "double"


@pytest.mark.parametrize("name", parameters())
@given(data=st.data())
def test_result_is_the_reference(name: str, data: st.DataObject) -> None:
    call = data.draw(calls(OPERATORS[name]))
    parts = [part for value in call.slots for part in (value if isinstance(value, tuple) else (value,))]
    exotic = EXOTIC & {part.dtype for part in parts if isinstance(part, DrawnTensor)}
    try:
        check(call, ic.device("cuda"))
    except ic.OperatorNotSupported:
        if not exotic:
            raise
        event(f"not supported with {', '.join(sorted(exotic))}")
