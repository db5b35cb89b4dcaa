# benchmarks/gpu on the double: every row runs and is right, with PyTorch and without, so that no typing error
# waits for a GPU. Its figures mean nothing here.
from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "gpu"
GROUPS = {"memory", "other", "gemm", "decode", "decode attention", "prefill", "host", "graph"}


def run(folder: Path, *options: str, code: int = 0, **environment: str) -> tuple[dict[str, Any], str]:
    """Run the benchmark's smoke run; its figures and its table."""
    figures, page = folder / "run.json", folder / "hardware.md"
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--smoke", "--json", str(figures), "--write", str(page), *options],
        env={**os.environ, **environment},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return json.loads(figures.read_text()), page.read_text()


@pytest.mark.parametrize("torch", [False, True])
def test_every_row_runs_and_is_right(tmp_path: Path, torch: bool) -> None:
    if torch and importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    found, page = run(tmp_path, *([] if torch else ["--no-torch"]))
    results = found["results"]
    assert {result["group"] for result in results} == GROUPS
    assert all(result["ours"]["median"] > 0 for result in results)
    assert all((result["theirs"] is not None) == torch for result in results if "eager" not in result["name"])
    assert [result["name"] for result in results][-1] == "decoding step as one graph, captured by the device"
    for result in results:
        assert f"| {result['group']}: {result['name']} |" in page
    assert page.startswith("# Hardware") and "CUDA double 0" in page and "figures mean nothing" in page
    again, longer = run(tmp_path, "--no-torch", "--only", "memory: add$")
    assert [result["name"] for result in again["results"]] == ["copy", "add"]
    assert longer.startswith(page) and longer.count("\n## ") == 2


def test_a_row_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    found, page = run(
        tmp_path, "--no-torch", "--only", "gemm|memory: add", code=1, CUDA_DOUBLE="fail=cublasLtMatmul:1:13"
    )
    errors = {result["name"]: result["error"] for result in found["results"]}
    assert "cublasLtMatmul" in errors.pop("matmul")
    assert set(errors.values()) == {""}
    assert "**failed**" in page


def test_a_row_that_breaks_the_device_fails_alone(tmp_path: Path) -> None:
    """A wrong address is the last thing that CUDA does for a process: another one goes on behind the row."""
    rows = ["--no-torch", "--only", "memory: (add|mul|silu)$"]
    found, page = run(tmp_path, *rows, code=1, CUDA_DOUBLE="fail=kernel:120:700")  # the second row's
    assert [result["name"] for result in found["results"]] == ["copy", "add", "mul", "silu"]
    errors = {result["name"]: result["error"] for result in found["results"] if result["error"]}
    assert list(errors) == ["mul"] and "illegal memory access" in errors["mul"]
    assert page.count("\n## ") == 1 and page.count("**failed**") == 1


def test_a_row_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    found, _ = run(tmp_path, "--no-torch", "--only", "memory: add$", "--patience", "0.001", code=1)
    assert [(result["name"], result["error"]) for result in found["results"]] == [
        (name, "nothing came of it in 0.001 s") for name in ("copy", "add")
    ]


def test_a_wrong_result_is_found() -> None:
    """The check itself: one wrong row among many, and a NaN."""
    code = f"""
import sys
sys.path.insert(0, {str(BENCHMARK)!r})
import infinicore as ic
from measuring import Maker, Pair, Peer, WrongResult, check

peer = Peer(ic.device("cpu"), False, False)
maker = Maker(ic.device("cpu"), peer, "bfloat16")
x = maker.random(5000, 8)
for wrong in (float("nan"), 3.0, None):
    calls = []
    def ours(a, out):
        out.copy_(a)
        calls.append(out)
        if wrong is not None and len(calls) == 2:  # the first call makes the reference
            out.narrow(0, 4321, 1).fill_(wrong)
    try:
        print(check(peer, [x, maker.empty(5000, 8)], (-1,), ours, None))
    except WrongResult as error:
        print("wrong:", error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert [line[:6] for line in done.stdout.splitlines()] == ["wrong:", "wrong:", "0.0"], done.stderr


def test_a_session_keeps_a_log_of_each_step(tmp_path: Path) -> None:
    session = [
        sys.executable,
        str(BENCHMARK / "session.py"),
        "--logs",
        str(tmp_path),
        "--device",
        "cpu",
        "quick",
    ]
    done = subprocess.run(session, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "graph: decoding step" in (tmp_path / "quick.log").read_text()
    assert done.stdout.endswith(f"quick: ok ({tmp_path / 'quick.log'})\n")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "infinicore_core-1.0-cp312-cp312-linux_x86_64.whl").write_text("no wheel")
    built = [*session[:-1], "build", "--wheels", str(wheels)]
    done = subprocess.run(built, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1 and "infinicore_core-1.0-cp312-cp312-linux_x86_64.whl" in done.stdout
    done = subprocess.run([*session, "--limit", "0"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 1 and "quick: ended with 124" in done.stdout
