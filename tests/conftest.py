# What every test shares: hypothesis profiles, the PyTorch switch, and the devices under test.
# No vendor library is imported here or at collection.
"""Configuration of the whole test suite."""

from __future__ import annotations

import os
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import infinicore

# A device's first call pays for loading it, so a deadline would measure that.
# A device fixture is the same for every example, so sharing it between them hides nothing.
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "ci", max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=SLOW
)
settings.register_profile(
    "smoke", max_examples=4, deadline=None, derandomize=True, database=None, suppress_health_check=SLOW
)
settings.register_profile("dev", max_examples=40, deadline=None, suppress_health_check=SLOW)
settings.register_profile("thorough", max_examples=1000, deadline=None, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

WITNESS = os.environ.get("INFINICORE_TEST_TORCH", "1") != "0"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs PyTorch when it was switched off; an absent PyTorch that was not is a failure."""
    if not WITNESS:
        skip = pytest.mark.skip(reason="INFINICORE_TEST_TORCH=0")
        for item in items:
            if item.get_closest_marker("torch"):
                item.add_marker(skip)


@pytest.fixture
def torch() -> ModuleType:
    """PyTorch, the second witness."""
    if not WITNESS:
        pytest.skip("INFINICORE_TEST_TORCH=0")
    import torch

    return torch


@pytest.fixture
def cpu() -> infinicore.device:
    """Return the built-in backend's device."""
    import infinicore as ic

    return ic.device("cpu")


@pytest.fixture
def sim() -> infinicore.device:
    """Return the first device of the simulated vendor; it comes with core, so that it has no excuse."""
    import infinicore as ic
    from infinicore.testing import sim

    sim.enable()
    return ic.device("sim:0")


# Devices of the shared suite: cpu and sim everywhere, or one vendor's on request (nox -s doubles, hardware).
VENDOR = os.environ.get("INFINICORE_TEST_BACKEND")


@pytest.fixture(params=[VENDOR] if VENDOR else ["cpu", "sim"])
def device(request: pytest.FixtureRequest) -> infinicore.device:
    """Return each device under test; a vendor's is skipped with what its backend says about itself."""
    import infinicore as ic

    if request.param in ("cpu", "sim"):
        return request.getfixturevalue(request.param)
    try:
        ic.empty((1,), dtype=ic.float32, device=request.param)
    except ic.BackendUnavailable as error:
        pytest.skip(str(error))
    return ic.device(request.param)
