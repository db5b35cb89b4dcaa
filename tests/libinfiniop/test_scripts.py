# Scripts as people write them for the C API run unchanged: one for each of the 33 core operators, on the CPU.
# All run in one process, so that PyTorch is imported once; one runs as scripts/python_test.py starts it.
"""Operator scripts, and the commands that install for them and run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(__file__).parent / "scripts"
CORE = """add add_rms_norm attention causal_softmax clip conv dequantize_awq gelu gemm int8_gemm layer_norm
logsoftmax lp_norm mul ones paged_attention paged_attention_prefill paged_caching random_sample rearrange relu
rms_norm rope sigmoid silu softmax softplus sub swiglu tanh topkrouter topksoftmax zeros""".split()

# Runs each script as `python SCRIPT FLAGS` would, and prints the names of those that end well.
RUNNER = """
import contextlib, io, os, runpy, sys, traceback
folder, flags, names = sys.argv[1], sys.argv[2].split(), sys.argv[3:]
sys.path.insert(0, folder)
import torch
torch.set_num_threads(1)
for name in names:
    torch.manual_seed(0)
    sys.argv = [f"{name}.py", *flags]
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            runpy.run_path(os.path.join(folder, f"{name}.py"), run_name="__main__")
        if "Test passed!" not in output.getvalue():
            raise AssertionError(f"{name} printed no success")
    except BaseException:
        print(output.getvalue()[-400:], file=sys.stderr)
        traceback.print_exc()
        continue
    print("OK", name, flush=True)
"""


@pytest.fixture(scope="session")
def infini_root(tmp_path_factory):
    """Return what programs are told by INFINI_ROOT, filled by scripts/install.py."""
    root = tmp_path_factory.mktemp("infini") / "root"
    command = [sys.executable, str(ROOT / "scripts" / "install.py"), "--no-build", "--root", str(root)]
    subprocess.run(command, check=True, capture_output=True)
    return root


def run_scripts(names, flags, root):
    command = [sys.executable, "-c", RUNNER, str(SCRIPTS), flags, *names]
    environment = {**os.environ, "INFINI_ROOT": str(root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    passed = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("OK ")}
    assert passed == set(names), f"{sorted(set(names) - passed)} failed:\n{done.stderr}"


def test_there_is_a_script_for_each_core_operator():
    assert sorted(path.stem for path in SCRIPTS.glob("[!_]*.py")) == CORE and len(CORE) == 33


@pytest.mark.torch
def test_scripts_pass_on_the_cpu(infini_root):
    run_scripts(CORE, "--cpu", infini_root)


@pytest.mark.torch
def test_scripts_can_report_and_measure(infini_root):
    flags = "--cpu --debug --profile --num_prerun 1 --num_iterations 2"
    run_scripts(["add", "softmax"], flags, infini_root)


# ---- scripts/python_test.py --------------------------------------------------------------------------------


def python_test(*arguments):
    command = [sys.executable, str(ROOT / "scripts" / "python_test.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def test_exit_status_is_the_number_of_failed_scripts(tmp_path):
    (tmp_path / "good.py").write_text("import sys; assert sys.argv[1:] == ['--cpu', '--debug']")
    (tmp_path / "bad.py").write_text("assert False")
    (tmp_path / "worse.py").write_text("raise SystemExit(7)")
    (tmp_path / "_shared.py").write_text("assert False")
    done = python_test("--folder", tmp_path, "--cpu", "--debug")
    assert done.returncode == 2
    assert "2 failed: bad.py, worse.py" in done.stdout and "1 passed: of 3 scripts" in done.stdout
    assert python_test("--folder", tmp_path, "--cpu", "--debug", "--only", "good").returncode == 0


def test_folder_without_scripts_is_an_error(tmp_path):
    done = python_test("--folder", tmp_path)
    assert done.returncode == 2 and "has no scripts" in done.stderr


@pytest.mark.torch
def test_a_script_of_this_tree():
    done = python_test("--only", "tanh", "--cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Testing Tanh on CPU" in done.stdout and "Test passed!" in done.stdout


# ---- scripts/install.py ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_install(mode, tmp_path):
    """INFINI_ROOT then holds what programs look for, and the bindings work from there."""
    flags = ["--copy"] if mode == "copy" else []
    command = [sys.executable, str(ROOT / "scripts" / "install.py"), "--no-build", "--omp=y", *flags]
    environment = {**os.environ, "INFINI_ROOT": str(tmp_path / "root")}
    for _ in range(2):  # a second time over the first
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert f"export INFINI_ROOT={tmp_path / 'root'}" in done.stdout and "--omp=y is not needed" in done.stdout
    for name in ("lib/libinfiniop.so", "lib/libinfinirt.so", "include/infinirt.h", "include/infinicore.h"):
        path = tmp_path / "root" / name
        assert path.is_file() and path.is_symlink() == (mode == "link")
    code = """
import ctypes
from libinfiniop import InfiniDtype, LIBINFINIOP, create_handle, destroy_handle
from libinfiniop.liboperators import library_folder
print(library_folder())
assert LIBINFINIOP.infinirtSetDevice(0, 0) == 0
handle = create_handle()
assert handle.contents.device == 0
destroy_handle(handle)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "root" / "lib")), done.stderr


def test_install_without_libraries_says_so(tmp_path):
    code = f"""
import sys, pathlib
sys.path.insert(0, {str(ROOT / "scripts")!r})
import install
install.installed = lambda: pathlib.Path({str(tmp_path)!r})
install.main(["--no-build", "--root", {str(tmp_path / "root")!r}])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "has no libinfiniop.so" in done.stderr
