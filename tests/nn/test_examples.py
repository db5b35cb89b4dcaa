# The examples in the docstrings of infinicore.nn run, and print what they say.
# Every public class and function there has a docstring.
from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

from infinicore import nn

NAMES = ["infinicore.nn", *(found.name for found in pkgutil.walk_packages(nn.__path__, "infinicore.nn."))]


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    assert (
        sum(len(test.examples) for name in NAMES for test in finder.find(importlib.import_module(name))) > 20
    )


@pytest.mark.parametrize("name", nn.__all__)
def test_everything_has_a_docstring(name):
    entry = getattr(nn, name)
    assert inspect.getdoc(entry)
    for member, value in vars(entry).items() if isinstance(entry, type) else ():
        if inspect.isfunction(value) and not member.startswith("_"):
            assert value.__doc__, f"{name}.{member}"
