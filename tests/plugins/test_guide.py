# The guide to writing a backend: what it includes is there, and what it says about use is true.
# The listings themselves are the example plug-in, which test_plugins.py builds and runs.
from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "writing-a-backend.md"
EXAMPLE = ROOT / "tests" / "plugins" / "example"


def test_every_listing_is_there() -> None:
    listings = re.findall(r"```\{literalinclude\} (\S+)\n((?::.*\n)*)```", GUIDE.read_text())
    included: dict[Path, set[str]] = {}
    for name, options in listings:
        file = (GUIDE.parent / name).resolve()
        marker = re.search(r':start-after: "(.*)"\n:end-before: "\1"', options)
        assert (marker is None) == (":start-after:" not in options)
        if marker is not None:
            assert file.read_text().count(marker[1] + "\n") == 2, (name, marker[1])
        included.setdefault(file, set()).add(marker[1] if marker else "")
    # The guide shows every file of the example, and every marked part of it.
    patterns = ("*.toml", "*.py", "src/*/*.?pp", "src/*/*.py", "tests/*.py")
    for file in [path for pattern in patterns for path in EXAMPLE.glob(pattern)]:
        marked = set(re.findall(r"^// \[\w+\]$", file.read_text(), re.MULTILINE))
        assert included.get(file) == (marked or {""}), file
    assert len(listings) == sum(map(len, included.values()))


def test_what_it_says_about_use_is_true(python: Callable[..., Any]) -> None:
    first, second = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert python("-c", first).stdout == "[[2.0, 5.0], [5.0, 8.0]]\n"
    assert python("-c", "import infinicore as ic\n" + second).stdout == ""


def test_what_it_quotes_is_what_is_said(python: Callable[..., Any]) -> None:
    (quoted,) = re.findall(r"```text\n(missing .*?)```", GUIDE.read_text(), re.DOTALL)
    said = [line.split() for line in python("-m", "infinicore").stdout.splitlines()]
    for line in quoted.splitlines()[1:]:  # the first holds the version
        assert line.split() in said
