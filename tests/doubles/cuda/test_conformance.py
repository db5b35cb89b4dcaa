# The conformance suite on the CUDA double: every operator of the plug-in against its float64 reference.
# A result of the double is about the text of kernels and calls; it says nothing about silicon.
from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import infinicore as ic
from infinicore.schema import OPERATORS
from infinicore.testing.conformance import check
from infinicore.testing.strategies import DrawnTensor, calls

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

# Element types that arithmetic may lack on a device. What only moves data has no such excuse.
EXOTIC = {"byte", "bool", "f8", "c16", "c32", "c64", "c128"}
KNOWN = Path(__file__).parents[3] / "infinicore-cuda" / "known_failures.toml"


def known_failures() -> dict[str, str]:
    """Operator to reason, of the cases that concern a double."""
    cases = tomllib.loads(KNOWN.read_text()).get("case", [])
    return {case["operator"]: case["reason"] for case in cases if case["tier"] == "double"}


def parameters() -> list[object]:
    known = known_failures()
    assert set(known) <= set(OPERATORS), f"{KNOWN} names what is no operator"
    mark = lambda name: [pytest.mark.xfail(reason=known[name], strict=True)] if name in known else []
    return [pytest.param(name, marks=mark(name)) for name in sorted(OPERATORS)]


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
