# The kinds of tests, which are markers: `pytest -m concurrency` runs what threads and processes are in.
# tests/conftest.py tells them by folder, file and name, so that nobody writes them.
"""Markers of the kinds of tests."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).parents[1]
KINDS = {"correctness", "performance", "concurrency", "exceptions"}


@pytest.fixture
def conftest(request: pytest.FixtureRequest) -> ModuleType:
    found = request.config.pluginmanager.get_plugin(str(TESTS / "conftest.py"))
    assert isinstance(found, ModuleType)
    return found


def test_every_collected_test_has_its_kinds(request: pytest.FixtureRequest) -> None:
    assert {line.partition(":")[0] for line in request.config.getini("markers")} > KINDS
    for item in request.session.items:
        if item.path.is_relative_to(TESTS):
            assert KINDS & {mark.name for mark in item.iter_markers()}, item.nodeid
    assert [mark.name for mark in request.node.iter_markers()] == ["correctness"]


@pytest.mark.parametrize(
    ("path", "name", "kinds"),
    [
        ("core/test_dtype.py", "test_names", ["correctness"]),
        ("core/test_dtypes.py", "test_unknown_names_are_refused", ["exceptions"]),
        ("core/test_graph.py", "test_replay_allocates_and_looks_up_nothing", ["performance"]),
        ("distributed/test_processes.py", "test_values", ["concurrency"]),
        ("distributed_too/test_values.py", "test_values", ["correctness"]),
        ("operators/test_errors.py", "test_output_that_overlaps_itself", ["exceptions"]),
        ("distributed/test_table.py", "test_what_is_refused", ["concurrency", "exceptions"]),
    ],
)
def test_kinds_follow_from_place_and_name(
    conftest: ModuleType, path: str, name: str, kinds: list[str]
) -> None:
    assert conftest.kinds_of(path, name) == kinds


def test_every_kind_has_tests_and_every_rule_a_place(conftest: ModuleType) -> None:
    found: dict[str, set[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        inside = path.relative_to(TESTS).as_posix()
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE):
            found.setdefault(inside.partition("/")[0], set()).update(conftest.kinds_of(inside, name))
    assert found["core"] == KINDS
    assert {"correctness", "exceptions"} <= found["operators"] & found["nn"] & found["capi"] & found[
        "plugins"
    ]
    for places, _ in conftest.KINDS.values():
        assert all((TESTS / place).exists() for place in places)
