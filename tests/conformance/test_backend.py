# The conformance kit on core's own backends, or on one vendor's (nox -s doubles, hardware): the code that
# `python -m infinicore.testing` runs. Every operator is tried in every combination of dtypes.
"""Conformance of backends."""

from __future__ import annotations

import functools
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import infinicore as ic
from infinicore.schema import OPERATORS
from infinicore.testing import known_failures, report
from infinicore.testing.runner import run_isolated
from infinicore.testing.strategies import combinations
from infinicore.testing.suite import CATEGORIES, Options

VENDOR = os.environ.get("INFINICORE_TEST_BACKEND")
BACKENDS = [VENDOR] if VENDOR else ["cpu", "sim"]
THOROUGH = bool(os.environ.get("INFINICORE_TEST_THOROUGH"))
REFUSED = Path(__file__).parent / "refused"
# Times are for reports; with two cores and other tests beside, they would say nothing.
TESTS = tuple(category for category in CATEGORIES if category != "performance")


def certified(backend: str) -> dict[str, Any]:
    options = Options(backend, tests=TESTS, iterations=10 if THOROUGH else 1)
    plugin = ic.backends[backend].plugin if backend in ic.backends else None
    path = known_failures.find(plugin.module) if plugin is not None else None
    known = known_failures.load(path)
    outcomes = run_isolated(options, known, None if path is None else str(path))
    return report.make(options, outcomes, known)


@functools.cache
def started() -> dict[str, Future[dict[str, Any]]]:
    """Begin with all backends at once: each works in a process of its own."""
    pool = ThreadPoolExecutor(len(BACKENDS))
    return {backend: pool.submit(certified, backend) for backend in BACKENDS}


@pytest.fixture(params=BACKENDS)
def result(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What came of a backend's checks."""
    if request.param == "sim":
        request.getfixturevalue("sim")
    elif request.param != "cpu":
        try:
            ic.backends[request.param].open()
        except (ic.BackendUnavailable, KeyError) as error:
            pytest.skip(str(error))
    return started()[request.param].result()


def test_nothing_is_found(result: dict[str, Any]) -> None:
    found = {check["id"]: check["message"] for check in report.findings(result)}
    assert not found
    ran = {check["id"].partition(".")[0] for check in result["checks"] if check["state"] == "passed"}
    assert {"exceptions", "leaks", "lifecycle", "operators", "runtime", "stress", "threads"} <= ran
    assert result["tier"] == {"cpu": "hardware", "sim": "simulated"}.get(
        result["backend"]["name"], os.environ.get("INFINICORE_TEST_TIER", "not stated")
    )


def test_what_is_refused_is_listed(result: dict[str, Any]) -> None:
    """A combination that newly refuses fails, and so does one that is listed and works."""
    file = REFUSED / f"{result['backend']['name']}.txt"
    if not file.is_file():
        pytest.skip(f"there is no list {file.name}: a vendor's report says what it refuses")
    lines = [line.split() for line in file.read_text().splitlines() if not line.startswith("#")]
    listed = {(line[0], dtypes) for line in lines for dtypes in line[1:]}
    states = {
        (name, dtypes): facts["state"]
        for name, cells in result["coverage"].items()
        for dtypes, facts in cells.items()
    }
    refused = {key for key, state in states.items() if state not in ("native", "reference", "failed")}
    assert refused - listed == set(), "these newly refuse"
    assert listed - refused == set(), f"these work now: remove them from {file.name}"


def test_every_combination_was_tried(result: dict[str, Any]) -> None:
    if VENDOR:
        pytest.skip("a vendor's operators are those that it has")
    assert set(result["coverage"]) == set(OPERATORS)
    for name, schema in OPERATORS.items():
        tried = result["coverage"][name]
        assert len(tried) == len(list(combinations(schema))), name
        assert all(facts["calls"] > 0 for facts in tried.values()), name
        assert {facts["state"] for facts in tried.values()} == {"native"}, name
