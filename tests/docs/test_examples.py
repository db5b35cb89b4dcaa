# Every example in README and docs that is written as a Python session runs, and prints what the page says.
# Links between pages lead somewhere.
"""Documentation that is true."""

from __future__ import annotations

import doctest
import gc
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted(ROOT.glob("infinicore-*/README.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sessions_print_what_the_page_says(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    gc.collect()  # a page that counts memory counts its own
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.failed == 0


def test_there_are_sessions() -> None:
    assert sum(page.read_text().count("\n>>> ") for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_variable_is_documented() -> None:
    """The table of environment variables has what the sources read."""
    documented = set(re.findall(r"`(INFINICORE_\w+)`", (ROOT / "docs" / "environment.md").read_text()))
    source = ROOT / "infinicore-core" / "src" / "infinicore"
    read = set()
    lookup = re.compile(r"(?:getenv\(|environ\.get\(|environ\[|environment\(|setting\()\"(INFINICORE_\w+)\"")
    for path in [*source.rglob("*.py"), *source.rglob("*.pyx"), *source.rglob("*.cpp")]:
        read |= set(lookup.findall(path.read_text()))
    assert read and read <= documented, read - documented
