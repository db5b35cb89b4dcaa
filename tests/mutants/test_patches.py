# Every mutant still fits the source: its patch applies exactly once. Whether the suite catches it is the
# matter of `nox -s mutants`, which builds each.
"""Seeded mutants."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCE = ROOT / "infinicore-core" / "src" / "infinicore"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"infinicore_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


MUTANTS = load("mutants").MUTANTS


def test_there_are_enough() -> None:
    assert len(MUTANTS) >= 20
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert any(mutant.extension is None for mutant in MUTANTS)


@pytest.mark.skipif(not SOURCE.is_dir(), reason="the sources are not beside the tests")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_patch_applies_once(mutant: Any) -> None:
    text = (SOURCE / mutant.file).read_text()
    assert text.count(mutant.old) == 1, f"{mutant.file} has {mutant.old!r} {text.count(mutant.old)} times"
    assert mutant.old != mutant.new
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).is_file(), test
