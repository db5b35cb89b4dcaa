# Certifies the device: calls of every operator that it has, drawn from the operator's signature, are compared
# with the reference in float64. A new kernel needs no line here.
"""Conformance of example."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import infinicore as ic
from infinicore.report import report
from infinicore.schema import OPERATORS, VARIABLES
from infinicore.testing.conformance import check
from infinicore.testing.strategies import calls

(BACKEND,) = [entry for entry in report()["backends"] if entry["name"] == "example"]
# The dtype that kernels have, for every letter of a signature: extend it with them.
DTYPES = dict.fromkeys(VARIABLES, "f32")


def test_the_backend_is_ready() -> None:
    assert BACKEND["state"] == "ready", BACKEND["reason"]
    assert BACKEND["devices"] and not BACKEND["operators"]["lost"]


@pytest.mark.parametrize("name", BACKEND["operators"]["native"])
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_results_are_the_reference(name: str, data: st.DataObject) -> None:
    check(data.draw(calls(OPERATORS[name], dtypes=DTYPES)), ic.device("example"))
