# The example's model code, imported from the examples folder, and its checkpoint.
"""Fixtures of the language-model tests."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def examples() -> Path:
    return EXAMPLES


@pytest.fixture(scope="session")
def folder() -> Path:
    return EXAMPLES / "models" / "stdlib-llama"


@pytest.fixture(scope="session")
def llama() -> ModuleType:
    """Import examples/llama.py."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module("llama")
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="session")
def prompts(folder: Path) -> list[dict[str, Any]]:
    """What transformers computed for three prompts: token ids, 64 greedy tokens, the largest logits."""
    return json.loads((folder / "reference.json").read_text())
