# `python -m infinicore.new backend`: what it writes is the example that the guide shows; it builds into a
# wheel, installs, is found, and passes the tests that come with it.
"""The scaffold of a backend."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import infinicore as ic

PLUGINS = Path(__file__).parents[1] / "plugins"
EXAMPLE = PLUGINS / "example"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def plugins() -> ModuleType:
    """Load what the tests of plug-ins share: pip without a network."""
    spec = importlib.util.spec_from_file_location("plugins_conftest", PLUGINS / "conftest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def contents(folder: Path) -> dict[str, str]:
    """Map the files of a wheel's folder to what they hold, without what builds leave."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".so", ".pyc", ".o")]
    built = ("build", "egg-info")
    kept = [p for p in files if not any(part.endswith(built) for part in p.relative_to(folder).parts)]
    return {str(path.relative_to(folder)): path.read_text() for path in kept}


def test_it_writes_the_example_of_the_guide(run: Run, tmp_path: Path) -> None:
    said = run("-m", "infinicore.new", "backend", "example", cwd=tmp_path).stdout
    written = contents(tmp_path / "infinicore-example")
    assert written.pop("VERSION").strip() == ic.__version__
    example = contents(EXAMPLE)
    del example["VERSION"]
    assert written == example
    assert all(f"wrote infinicore-example/{name}\n" in said for name in written)


def test_it_works_from_the_start(run: Run, tmp_path: Path) -> None:
    run("-m", "infinicore.new", "backend", "acme", "--vendor", "Acme & Sons", cwd=tmp_path)
    folder, site = tmp_path / "infinicore-acme", tmp_path / "site"
    pip = plugins().pip
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", tmp_path / "dist")
    pip("wheel", *offline, folder)
    pip("install", "--no-deps", "--no-index", "--target", site, *(tmp_path / "dist").glob("*.whl"))
    report = json.loads(run("-m", "infinicore", "--json", path=site, cwd=tmp_path).stdout)
    (acme,) = [entry for entry in report["backends"] if entry["name"] == "acme"]
    assert (acme["state"], acme["vendor"], acme["version"]) == ("ready", "Acme & Sons", ic.__version__)
    assert acme["devices"][0]["name"] == "Acme & Sons device"
    assert acme["operators"]["native"] == ["add", "neg"]
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", folder / "tests", path=site, cwd=tmp_path)
    assert "3 passed" in done.stdout


def test_what_it_refuses(run: Run, tmp_path: Path) -> None:
    (tmp_path / "infinicore-taken").mkdir()
    for arguments, reason in {
        ("My-Chip",): "backend 'My-Chip': a name is lower-case letters and digits",
        ("class",): "backend class: the word is reserved in Python or C++",
        ("cuda",): "backend cuda: cuda is a device that infinicore knows",
        ("npu",): "backend npu: ascend is a device that infinicore knows",
        ("taken",): "backend taken: infinicore-taken exists",
        ("acme", "--into", "nowhere"): "backend acme: there is no folder nowhere",
        ("acme", "--vendor", '"'): "backend acme: vendor='\"' is no name of letters, digits and spaces",
    }.items():
        said = run("-m", "infinicore.new", "backend", *arguments, cwd=tmp_path, status=2).stderr
        assert said == f"error: {reason}\n"
    assert not (tmp_path / "infinicore-acme").exists()
