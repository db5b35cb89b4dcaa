# What is particular to squareplus: values known without a program, and its limits. Drawn calls against the
# reference, strides, dtypes and errors are tested for every operator from its signature.
"""Operator squareplus."""

import math

import pytest

import infinicore as ic


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_known_values(dtype: str, device: ic.device) -> None:
    x = ic.from_list([-1.5, 0.0, 1.5], dtype=getattr(ic, dtype), device="cpu").to(device)
    assert ic.squareplus(x).to("cpu").tolist() == [0.5, 1.0, 2.0]


def test_limits(device: ic.device) -> None:
    x = ic.from_list([math.inf, math.nan], dtype=ic.float32, device="cpu").to(device)
    large, unknown = ic.squareplus(x).to("cpu").tolist()
    assert large == math.inf and math.isnan(unknown)
