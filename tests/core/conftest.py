# What the tests of backends share: plug-ins compiled from fake_plugin.c, wheels that are installed by
# writing their metadata, and a fresh process per scenario (a process keeps the plug-ins that it opened).
from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent


class World:
    """A folder with plug-ins, and fresh interpreters that find them there."""

    def __init__(self, folder: Path) -> None:
        self.plugins = folder / "plugins"
        self.site = folder / "site"
        self.plugins.mkdir()
        self.site.mkdir()

    def library(
        self, name: str = "fake", *, file: str | None = None, folder: Path | None = None, **macros: object
    ) -> Path:
        """Compile a plug-in called `name`; the macros are those of fake_plugin.c."""
        import infinicore

        target = (folder or self.plugins) / (file or f"libinfinicore_{name}.so")
        include = Path(infinicore.__file__).parent / "include"
        defines = [f"-D{key}={value}" for key, value in macros.items()]
        command = [
            *os.environ.get("CC", "cc").split(),
            "-shared",
            "-fPIC",
            "-O0",
            "-Wall",
            "-Wextra",
            "-Werror",
        ]
        subprocess.run(
            [
                *command,
                f'-DNAME="{name}"',
                *defines,
                f"-I{include}",
                str(HERE / "fake_plugin.c"),
                "-o",
                str(target),
            ],
            check=True,
        )
        return target

    def wheel(
        self,
        name: str,
        record: str,
        *,
        distribution: str | None = None,
        version: str = "1.0",
        native: str = "",
    ) -> Path:
        """Install a distribution that registers backend `name`.

        `record` is the source of the expression for its plug-in record, `native` that of its module _backend.
        """
        distribution = distribution or f"infinicore-{name}"
        package = distribution.replace("-", "_")
        root = self.site / package
        root.mkdir()
        (root / "__init__.py").write_text(
            f"import sys\nfrom infinicore.discovery import Plugin\nplugin = {record}\n"
        )
        (root / "_backend.py").write_text(native)
        info = self.site / f"{package}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[infinicore.backends]\n{name} = {package}:plugin\n")
        return root

    def run(
        self, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a fresh interpreter that finds the plug-ins of this world."""
        variables = {key: value for key, value in os.environ.items() if not key.startswith("INFINICORE_")}
        variables["INFINICORE_BACKEND_PATH"] = str(self.plugins)
        variables["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(self.site), os.environ.get("PYTHONPATH")])
        )
        done = subprocess.run(
            [sys.executable, *arguments],
            env=variables | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def python(self, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `code` in such an interpreter."""
        return self.run("-c", textwrap.dedent(code), **environment)

    def output(self, code: str, **environment: str) -> str:
        """Return what `code` prints."""
        return self.python(code, **environment).stdout.strip()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world with one sound plug-in, "fake" with two devices, for tests that add nothing to it."""
    made = World(tmp_path_factory.mktemp("world"))
    made.library("fake")
    return made


# A module _backend whose capsule holds the tables of a library file.
CAPSULE = """
import ctypes
library = ctypes.CDLL({path!r})
library.infinicore_backend.restype = ctypes.c_void_p
make = ctypes.pythonapi.PyCapsule_New
make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
name = ctypes.create_string_buffer({name!r})
capsule = make(library.infinicore_backend(), name, None)
"""


@pytest.fixture
def capsule_source() -> Callable[..., str]:
    """Source of a module ``_backend`` over a compiled library."""
    return lambda path, name=b"infinicore.backend.v1": CAPSULE.format(path=str(path), name=name)
