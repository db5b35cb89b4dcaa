# ntops, another package of operators: found where it is installed, used for devices that PyTorch calls cuda
# or musa, and never where the program switched it off. Here it is a fake, and so is the device.
"""The optional package ntops."""

from __future__ import annotations

import pytest

# Its operators read their module's global `torch`, which infinicore takes the place of.
FAKE = """
import torch

__all__ = ["silu"]
calls = []


def silu(input, inplace=False):
    calls.append(inplace)
    return torch.empty_like(input)
"""
PROGRAM = """
import infinicore as ic
from infinicore.nn import functional as F

x = ic.empty((2,), dtype=ic.float32, device={device!r})
"""


@pytest.fixture
def ntops(world):
    """A world with the package and with a backend called cuda."""
    package = world.site / "ntops"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "torch.py").write_text(FAKE)
    (world.site / "torch.py").write_text("")  # what the package itself is written for
    world.library("cuda", DEVICE_TYPE=1)
    return world


def test_absent(world):
    # A module of this name that cannot be imported, whatever else is installed.
    (world.site / "ntops.py").write_text("raise ImportError('not here')")
    assert world.output("import infinicore as ic; print(ic.use_ntops, ic.ntops)") == "False None"


def test_present(ntops):
    code = (
        "import infinicore as ic, ntops; print(ic.use_ntops, ic.ntops is ntops, ntops.torch.silu.__globals__"
    )
    assert ntops.output(code + "['torch'] is ic)") == "True True True"


def test_importing_infinicore_does_not_look_for_it(ntops):
    assert ntops.output("import sys, infinicore; print('ntops' in sys.modules)") == "False"


@pytest.mark.parametrize(
    ("device", "call", "calls"),
    [
        ("cuda", "F.silu(x)", [False]),
        ("cuda", "F.silu(x, inplace=True)", [True]),
        ("cpu", "F.silu(x)", []),
        ("cpu", "F.silu(x, out=x)", []),
    ],
)
def test_silu_is_left_to_it(ntops, device, call, calls):
    code = f"{PROGRAM.format(device=device)}{call}\nprint(ic.ntops.torch.calls)"
    assert ntops.output(code) == str(calls)


@pytest.mark.parametrize(
    ("before", "call"), [("", "F.silu(x, out=x)"), ("ic.use_ntops = False", "F.silu(x)")]
)
def test_silu_is_not_left_to_it(ntops, before, call):
    # The fake device has no kernel of its own, so that a call which is not left to ntops says so.
    code = f"""{PROGRAM.format(device="cuda")}
{before}
try:
    {call}
except ic.OperatorNotSupported as error:
    print("silu" in str(error), ic.ntops.torch.calls)
"""
    assert ntops.output(code) == "True []"
