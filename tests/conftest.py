# What every test shares: hypothesis profiles, the PyTorch switch, and the devices under test.
# No vendor library is imported here or at collection.
"""Configuration of the whole test suite."""

from __future__ import annotations

import os
import re
from pathlib import Path
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


# The kinds of tests, each with the folders and files that are of it, and what the names of its other tests
# have. A test may be of several; one of none is a test of correctness.
KINDS = {
    "performance": (
        ["core/test_allocator.py"],
        r"leak|reus|recycl|cached|light$|allocates|importing|descriptors_",
    ),
    "concurrency": (
        ["distributed", "core/test_stream.py", "doubles/cuda/test_collectives.py", "plugins/test_sim_ccl.py"],
        r"thread|fork|process|stream|async|_ranks?_(?!comes)",
    ),
    "exceptions": (
        [
            "core/test_status.py",
            "doubles/cuda/test_faults.py",
            "lm/test_checkpoint.py",
            "operators/test_errors.py",
        ],
        r"refus|error|wrong|raise|invalid|unknown|missing|impossible|fail|broken|bad_|cannot|not_there|out_of_|timeout",
    ),
}


def kinds_of(path: str, name: str) -> list[str]:
    """Tell the kinds of the test called `name` in the file `path`, which is relative to this folder."""
    found = [
        kind
        for kind, (places, words) in KINDS.items()
        if any(path == place or path.startswith(f"{place}/") for place in places) or re.search(words, name)
    ]
    return found or ["correctness"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its kinds. Skip what needs PyTorch when it was switched off; an absent PyTorch that
    was not is a failure.
    """
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            name = getattr(item, "originalname", None) or item.name
            for kind in kinds_of(item.path.relative_to(here).as_posix(), name):
                item.add_marker(kind)
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
