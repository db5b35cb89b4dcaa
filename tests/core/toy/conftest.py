# A toy backend compiled from toy.c, and fresh processes that use it: what a kernel or a runtime function was
# given can be read back. (A process keeps the plug-ins that it found first, so each test has its own.)
from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import infinicore

HERE = Path(__file__).parent

PRELUDE = """
import ctypes, pytest
import infinicore as ic
ic.backends["toy"].open()
library = ctypes.CDLL({library!r})

class Toy:
    def __getattr__(self, name):
        kind = ctypes.c_int
        if name in ("want_workspace", "got_workspace"): kind = ctypes.c_uint64
        if name in ("got_ndim", "got_dim_count", "planned_dim_count"): kind = ctypes.c_int64
        if name in ("got_shape", "got_strides", "got_dims"):
            return list((ctypes.c_int64 * 8).in_dll(library, name))
        if name in ("got_alpha", "got_beta"): kind = ctypes.c_double
        if name == "got_stream": return ctypes.c_void_p.in_dll(library, name).value or 0
        return kind.in_dll(library, name).value
    def __setattr__(self, name, value):
        kind = ctypes.c_uint64 if name == "want_workspace" else ctypes.c_int
        kind.in_dll(library, name).value = value

toy = Toy()

def full(value, *shape, device="toy:0", dtype=ic.float32):
    return ic.full(shape, value, dtype=dtype, device=device)
"""


class Toy:
    """The toy's library, compiled once per set of macros, and processes that have it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.libraries: dict[tuple[str, ...], Path] = {}

    def library(self, *macros: str) -> Path:
        """Compile toy.c; returns the only file of its folder."""
        if macros not in self.libraries:
            folder = self.folder / ("-".join(macros) or "plain")
            folder.mkdir(exist_ok=True)
            include = Path(infinicore.__file__).parent / "include"
            target = folder / "libinfinicore_toy.so"
            compiler = [*os.environ.get("CC", "cc").split(), "-shared", "-fPIC", "-O1"]
            options = ["-Wall", "-Wextra", "-Werror", *(f"-D{m}" for m in macros), f"-I{include}"]
            subprocess.run([*compiler, *options, str(HERE / "toy.c"), "-o", str(target)], check=True)
            self.libraries[macros] = target
        return self.libraries[macros]

    def __call__(self, code: str, *macros: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `code` in a fresh process that knows ``toy``, ``ic`` and ``full``; it must succeed."""
        path = self.library(*macros)
        variables = {key: value for key, value in os.environ.items() if not key.startswith("INFINICORE_")}
        variables["INFINICORE_BACKEND_PATH"] = str(path.parent)
        text = PRELUDE.format(library=str(path)) + textwrap.dedent(code)
        done = subprocess.run(
            [sys.executable, "-c", text],
            env=variables | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return Toy(tmp_path_factory.mktemp("toy"))
