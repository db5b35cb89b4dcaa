# What the tests of the CUDA double share. `nox -s "doubles(cuda)"` builds it and says where it is.
# Faults are injected into fresh processes, which see the double's libraries and nothing else of CUDA's.
"""Fixtures of the tests of infinicore-cuda against the double of its SDK."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from infinicore.testing.tables import Tables, _Backend

HERE = Path(__file__).parent
FOLDER = os.environ.get("INFINICORE_DOUBLE", "")
Python = Callable[..., str]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Collect these tests only where nox built the double: that takes minutes."""
    return None if FOLDER and os.environ.get("INFINICORE_TEST_BACKEND") == "cuda" else True


@pytest.fixture(scope="session")
def build() -> ModuleType:
    """The script that builds the double."""
    spec = importlib.util.spec_from_file_location("cuda_double_build", HERE / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def folder() -> Path:
    """Where the libraries of the double are."""
    return Path(FOLDER)


PREAMBLE = """
import ctypes
import numpy as np
import infinicore as ic
double = ctypes.CDLL("libcudart.so.13")

def tables():
    from infinicore.testing import tables
    ic.backends["cuda"].devices  # opens it
    function = ctypes.CDLL("libinfinicore_cuda.so").infinicore_backend
    function.restype = ctypes.c_void_p
    return tables.Tables(tables._Backend.from_address(function()))

live = lambda what: double.cuda_double_live(what.encode())
configure = lambda text: double.cuda_double_configure(text.encode())
array = lambda *shape: np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
on = lambda a, device="cuda": ic.from_numpy(np.ascontiguousarray(a)).to(device)

def error_of(function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except ic.Error as error:
        print(type(error).__name__, error)
    else:
        print("no error")
"""


@pytest.fixture
def python(folder: Path, tmp_path: Path) -> Python:
    """Run code in a process of its own and return what it prints; keywords are environment variables."""

    def run(code: str, *first: Path, **environment: str) -> str:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")}
        libraries = os.pathsep.join(map(str, [*first, folder]))
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", PREAMBLE + textwrap.dedent(code)],
            env={**inherited, "LD_LIBRARY_PATH": libraries, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def double() -> ctypes.CDLL:
    """The double's runtime in this process, with what tests steer it by."""
    return ctypes.CDLL("libcudart.so.13")


@pytest.fixture(scope="session")
def tables() -> Tables:
    """The plug-in's tables, of a backend that is ready."""
    import infinicore as ic

    assert ic.backends["cuda"].devices, ic.backends["cuda"].reason
    function = ctypes.CDLL("libinfinicore_cuda.so").infinicore_backend
    function.restype = ctypes.c_void_p
    return Tables(_Backend.from_address(function()))
