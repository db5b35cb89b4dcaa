# The wheels under test: those that nox built (INFINICORE_TEST_WHEELS), or else built here from the tree.
# Building core takes minutes where nothing is cached, so that a plain pytest run does it only when asked to.
"""Fixtures of the packaging tests."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VENDORS = sorted(
    path.parent.name.removeprefix("infinicore-")
    for path in ROOT.glob("infinicore-*/pyproject.toml")
    if path.parent.name != "infinicore-core"
)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def wheels() -> Path:
    """Return the folder with the wheels of this tree."""
    folder = os.environ.get("INFINICORE_TEST_WHEELS")
    if not folder:
        pytest.skip("no wheels: INFINICORE_TEST_WHEELS is not set (nox -s tests sets it)")
    return Path(folder)


@pytest.fixture(scope="session")
def core_wheel(wheels: Path) -> Path:
    (found,) = wheels.glob("infinicore_core-*.whl")
    return found


@pytest.fixture(scope="session", params=VENDORS)
def vendor(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def vendor_wheel(vendor: str, wheels: Path) -> Path:
    """Return the wheel of a vendor, where somebody built it: that may take an hour of one processor."""
    found = [*wheels.glob(f"infinicore_{vendor}-*.whl")]
    if not found:
        pytest.skip(f'no wheel of infinicore-{vendor}: nox -s "wheel({vendor})" builds it')
    (wheel,) = found
    return wheel


def environment(folder: Path, wheels: Path, *distributions: str) -> Path:
    """Return the Python of a new environment, in which pip installed these wheels of this tree."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", wheels]
    # What core depends on comes from the environment that runs the tests, not from a package index.
    subprocess.run([*install, "--no-deps", "infinicore-core", "infinicore", *distributions], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "tests-environment.pth").write_text(
        "\n".join(path for path in sys.path if "site-packages" in path)
    )
    return python


@pytest.fixture(scope="session")
def fresh(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with core."""
    return environment(tmp_path_factory.mktemp("fresh"), wheels)


@pytest.fixture(scope="session")
def fresh_with_vendor(
    vendor: str, vendor_wheel: Path, wheels: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the Python of an environment with core and the wheel of a vendor."""
    return environment(tmp_path_factory.mktemp(vendor), wheels, f"infinicore-{vendor}")
