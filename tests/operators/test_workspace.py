# A kernel keeps to the workspace that it asked for: the bytes behind it stay as they were. Calls are drawn
# from the operators' signatures; those that need no workspace pass at once.
"""Workspaces of operators."""

from __future__ import annotations

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import infinicore as ic
from infinicore.schema import OPERATORS
from infinicore.testing.conformance import PlacedTensor, invoke, operand, operator_of, place
from infinicore.testing.strategies import calls

GUARD = 4096  # bytes


@pytest.mark.parametrize("name", ic.backends["cpu"].operators["native"])
@settings(max_examples=15)
@given(data=st.data())
def test_nothing_beyond_the_workspace_is_touched(name: str, cpu: ic.device, data: st.DataObject) -> None:
    schema, function = OPERATORS[name], operator_of(OPERATORS[name])
    call = data.draw(calls(schema))
    placed = place(call, lambda drawn: PlacedTensor(drawn, cpu))  # owns the memory of what follows
    slots = [operand(item) for item in placed]
    give_out = call.give_out or schema.count is not None  # what counts its output cannot plan without it
    (plan,) = invoke(schema, function.describe, slots, give_out=give_out)
    if plan.workspace_bytes == 0:
        event("needs no workspace")
        return
    workspace = ic.full((plan.workspace_bytes + GUARD,), 0xA5, dtype=ic.uint8, device=cpu)
    invoke(schema, lambda *p, **k: plan(*p, **k, workspace=workspace), slots, give_out=give_out)
    behind = workspace.tolist()[plan.workspace_bytes :]
    assert behind == [0xA5] * GUARD, f"{call}: {plan.workspace_bytes} bytes were asked for"
