# The conformance kit as a vendor runs it, on wheels that are built and installed: a good one has no finding,
# one with three faults has three, and known_failures.toml may list neither more nor less than is true.
"""Certifying plug-ins."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import infinicore as ic

HERE = Path(__file__).parent
Python = Callable[..., "subprocess.CompletedProcess[str]"]
FAULTS = {
    "operators.sub.f32": "elements are wrong",
    "leaks.abs": "host memory grows by",
    "threads.mul": "beside 3 other threads",
}
OPERATORS = ("abs", "add", "exp", "mul", "neg", "sub")


@pytest.fixture
def certify(python: Python, tmp_path: Path) -> Callable[..., tuple[dict[str, Any], str]]:
    """Run the command on a plug-in; returns the report, and what it printed."""

    def run(backend: str, *arguments: str, status: int, **environment: str) -> tuple[dict[str, Any], str]:
        file = tmp_path / "report.json"
        command = ("-m", "infinicore.testing", "--backend", backend, "--operators", *OPERATORS)
        command += ("--iterations", "2")
        done = python(*command, "--json", str(file), *arguments, status=status, **environment)
        return json.loads(file.read_text()), done.stdout

    return run


def test_three_faults_are_three_findings(certify: Callable[..., Any], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    report, text = certify("faulty", "--html", str(page), status=1)
    messages = {c["id"]: c["message"] for c in report["checks"] if c["state"] == "failed"}
    assert set(messages) == set(report["findings"]) == set(FAULTS)
    for name, words in FAULTS.items():
        assert words in messages[name]
        assert f"FAILED {name}\n" in text and name in page.read_text()
    assert report["tier"] == "not stated"
    assert report["coverage"]["add"]["f32"]["state"] == "native"
    assert report["coverage"]["add"]["f16"]["state"] == "refused"
    assert report["coverage"]["exp"]["f32"]["state"] == "absent"
    assert report["coverage"]["sub"]["f32"]["state"] == "failed"
    assert report["performance"]["add"]["microseconds"] > 0 and report["performance"]["add"]["cpu"] > 0


def test_faults_that_hardly_ever_show_are_found(certify: Callable[..., Any], tmp_path: Path) -> None:
    """Of one layout, one element, a refusal, and four threads at once."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    flags = ["-std=c++17", "-O0", "-fPIC", "-shared", "-fvisibility=hidden"]
    paths = [
        f"-I{Path(ic.__file__).parent / 'include'}",
        f"-I{HERE / 'example' / 'src' / 'infinicore_example'}",
    ]
    library = tmp_path / "libinfinicore_subtle.so"
    command = [compiler, *flags, *paths, str(HERE / "subtle" / "backend.cpp"), "-o", str(library)]
    subprocess.run(command, check=True)
    arguments = ("--iterations", "5", "--test", "basic", "--test", "concurrency", "--test", "leak")
    report, _ = certify("subtle", *arguments, status=1, INFINICORE_BACKEND_PATH=str(tmp_path))
    found = {"leaks.abs", "operators.add.f32", "operators.sub.f32", "special.neg", "threads.mul"}
    assert set(report["findings"]) == found


def test_a_good_plug_in_has_no_finding(certify: Callable[..., Any]) -> None:
    report, text = certify("example", "--tier", "double", status=0)
    assert report["findings"] == [] and report["tier"] == "double"
    assert {c["category"] for c in report["checks"]} == {
        "basic", "concurrency", "exception", "leak", "module", "performance", "stress"
    }  # fmt: skip
    assert "tier: double" in text and "no silicon took part" in text


def test_known_failures_are_strict(certify: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "known_failures.toml"
    entries = [f'[[failure]]\ntest = "{name}"\nreason = "known"\n' for name in FAULTS]
    file.write_text("\n".join(entries))
    chosen = ("--known-failures", str(file), "--test", "basic", "--test", "leak", "--test", "concurrency")
    report, _ = certify("faulty", *chosen, status=0)
    assert report["counts"]["known"] == 3 and report["findings"] == []
    entries.append('[[failure]]\ntest = "operators.add.f32"\nreason = "never was"\n')
    file.write_text("\n".join(entries))
    report, text = certify("faulty", *chosen, status=1)
    assert report["findings"] == ["operators.add.f32"]
    assert "known_failures.toml lists it as failing (never was), but it passes" in text


def test_a_wheel_ships_its_known_failures(python: Python) -> None:
    done = python(
        """
        from infinicore.testing import known_failures
        path = known_failures.find("infinicore_example._backend")
        none = known_failures.find("infinicore_faulty._backend")
        print(path.name, known_failures.load(path).failures, none)
        """
    )
    assert done.stdout == "known_failures.toml [] None\n"


def test_the_pytest_plug_in(python: Python, tmp_path: Path) -> None:
    file = tmp_path / "known_failures.toml"
    file.write_text('[[failure]]\ntest = "leaks.abs"\nreason = "known"\n')
    command = (
        "-m",
        "pytest",
        "-q",
        "-rf",
        "-p",
        "no:cacheprovider",
        "-p",
        "infinicore.testing.pytest_plugin",
    )
    options = ("--infinicore-backend", "faulty", "--infinicore-operators", "abs,neg,sub")
    known = ("--infinicore-known-failures", str(file), "--rootdir", str(tmp_path), str(tmp_path))
    done = python(*command, *options, *known, "-k", "leaks or f32", status=1)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    assert len(failed) == 1 and "operators.sub.f32" in failed[0]
    assert " 1 failed, " in f" {done.stdout.splitlines()[-1]}" and "1 xfailed" in done.stdout
    done = python(*command, "--infinicore-backend", "missing", str(tmp_path), status=4)
    assert "libmissing_driver.so.4" in done.stderr


def test_a_plug_in_that_cannot_be_used_says_why(python: Python) -> None:
    done = python("-m", "infinicore.testing", "--backend", "missing", status=2)
    assert "libmissing_driver.so.4" in done.stderr
