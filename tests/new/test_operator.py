# `python -m infinicore.new operator` in a copy of the tree: it writes what the guide shows, which passes
# its own tests and the suite's, first by its NumPy body and then by its kernel, really compiled.
"""The scaffold of an operator."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import infinicore as ic

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "operator"
INSTALLED = Path(ic.__file__).parent
Run = Callable[..., "subprocess.CompletedProcess[str]"]
# What the scaffold writes, and the file here that the guide includes it from.
WRITTEN = {
    "infinicore-core/src/infinicore/ops/squareplus.py": "ops.py",
    "infinicore-core/src/infinicore/cpu/kernels/squareplus.cpp": "kernel.cpp",
    "tests/operators/test_squareplus.py": "test.py",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Copy the sources and tests that an operator touches, with the compiled modules that are installed."""
    leave = shutil.ignore_patterns("build", "*.so", "*.so.*", "__pycache__", "*.egg-info")
    root = tmp_path / "tree"
    shutil.copytree(ROOT / "infinicore-core", root / "infinicore-core", ignore=leave)
    for library in INSTALLED.rglob("*.so*"):
        place = root / "infinicore-core" / "src" / "infinicore" / library.relative_to(INSTALLED)
        place.symlink_to(library)
    for name in ("operators", "core"):
        shutil.copytree(ROOT / "tests" / name, root / "tests" / name, ignore=leave)
    for name in ("tests/conftest.py", "pyproject.toml", "VERSION"):
        shutil.copy(ROOT / name, root / name)
    return root


def new(run: Run, tree: Path, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    source = tree / "infinicore-core" / "src"
    return run("-m", "infinicore.new", "operator", *arguments, path=source, cwd=tree, status=status)


def check(run: Run, tree: Path, *paths: str, selected: str = "squareplus or stubs") -> None:
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", selected, *paths)
    assert " passed" in run(*command, path=tree / "infinicore-core" / "src", cwd=tree).stdout


def test_it_works_from_the_start(run: Run, tree: Path) -> None:
    said = new(run, tree, "squareplus").stdout
    for path, golden in WRITTEN.items():
        assert (tree / path).read_text() == (GOLDEN / golden).read_text(), f"{golden} is not what is written"
        assert f"wrote {path}" in said
    # Without a kernel the NumPy body runs; the simulated device wants one.
    suite = ("tests/operators", "tests/core/test_references.py", "tests/core/test_stubs.py")
    check(run, tree, *suite, selected="(squareplus or stubs) and not sim")
    # A second time, it is there.
    again = new(run, tree, "squareplus", status=2).stderr
    assert again == "error: operator squareplus: infinicore.ops has one of that name\n"


def test_its_kernel_is_right(run: Run, tree: Path) -> None:
    core = tree / "infinicore-core"
    new(run, tree, "squareplus")
    # The other kernels take minutes to compile, and the CPU backend does without them.
    for kernel in (core / "src" / "infinicore" / "cpu" / "kernels").glob("*.cpp"):
        if kernel.stem not in ("squareplus", "elementwise"):
            kernel.unlink()
    package = core / "src" / "infinicore"
    for module in (package / "lib" / "libinfinicore_cpu.so", *(package / "testing" / "sim").glob("*.so")):
        module.unlink()  # links to what is installed, which must stay
    run("setup.py", "build_ext", "--inplace", cwd=core, INFINICORE_BUILD_ONLY="cpu,sim")
    native = "from infinicore.report import report; print(report()['backends'][0]['operators']['native'])"
    assert run("-c", native, path=core / "src").stdout == "['squareplus']\n"
    check(run, tree, "tests/operators/test_squareplus.py", "tests/operators/test_properties.py")


def test_what_it_refuses(run: Run, tree: Path, tmp_path: Path) -> None:
    for name, reason in {
        "Square": "operator 'Square': a name is lower-case words joined by underscores",
        "two__words": "operator 'two__words': a name is lower-case words joined by underscores",
        "template": "operator template: the word is reserved in Python or C++",
        "lambda": "operator lambda: the word is reserved in Python or C++",
        "softmax": "operator softmax: infinicore.ops has one of that name",
        "graph": "operator graph: infinicore.graph is something else",
        "elementwise": "operator elementwise: ",
    }.items():
        said = new(run, tree, name, status=2).stderr
        assert said.startswith(f"error: {reason}") and len(said.splitlines()) == 1
    nowhere = run("-m", "infinicore.new", "operator", "squareplus", cwd=tmp_path, status=2).stderr
    assert "is not inside a source tree of infinicore" in nowhere


def test_every_listing_of_the_guide_is_there() -> None:
    guide = ROOT / "docs" / "writing-an-operator.md"
    listings = re.findall(r"```\{literalinclude\} (\S+)\n((?::.*\n)*)```", guide.read_text())
    included = {(guide.parent / name).resolve() for name, _ in listings}
    assert included >= {GOLDEN / name for name in WRITTEN.values()}
    for name, options in listings:
        text = (guide.parent / name).read_text()
        for marker in re.findall(r':(?:start|end)-at: "(.*)"', options):
            assert marker in text, f"{name} has no {marker!r}"
