# What the tests of plug-ins share: wheels that are really built and installed, fresh interpreters that find
# them, and the tables of the simulated vendors in this process.
"""Fixtures of the plug-in tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_int32, c_void_p
from pathlib import Path

import pytest

from infinicore.testing import sim
from infinicore.testing.tables import Runtime, alone

Python = Callable[..., "subprocess.CompletedProcess[str]"]
HERE = Path(__file__).parent
collect_ignore = ["example"]  # the example's own tests want it installed: tests/new runs them so
WHEELS = ("example", "stale", "newer", "next", "broken", "missing", "mismatch", "faulty", "sim", "sim2")


def pip(*arguments: object) -> None:
    """Run pip without a network; its output is shown when it fails."""
    # Without optimisation: compiling is most of the time, and nobody measures these plug-ins.
    environment = {**os.environ, "CFLAGS": "-O0", "CXXFLAGS": "-O0", "INFINICORE_BUILD_JOBS": "1"}
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel of every plug-in here, built from its sources."""
    folder = tmp_path_factory.mktemp("plugins")
    for name in WHEELS:  # copies: a build leaves files behind, and VERSION is a link out of the folder
        leave = shutil.ignore_patterns("build", "*.egg-info")
        shutil.copytree(HERE / name, folder / "sources" / name, ignore=leave)
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder / "dist")
    halves = [[folder / "sources" / name for name in WHEELS[start::2]] for start in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(pip, "wheel", *offline, *half) for half in halves]:
            done.result()
    return folder / "dist"


@pytest.fixture(scope="session")
def site(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every wheel is installed."""
    folder = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--no-index", "--target", folder, *sorted(wheels.glob("*.whl")))
    return folder


@pytest.fixture(scope="session")
def python(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Python:
    """Run a fresh interpreter that finds the wheels: ``python("code")`` or ``python("-m", "infinicore")``.

    Keyword arguments are environment variables; ``status`` is what it must end with, None for anything.
    """
    elsewhere = tmp_path_factory.mktemp("cwd")

    def run(*arguments: str, status: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        if len(arguments) == 1:
            arguments = ("-c", textwrap.dedent(arguments[0]))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("INFINICORE_")}
        path = os.pathsep.join(filter(None, [str(site), inherited.get("PYTHONPATH", "")]))
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", *arguments],
            env={**inherited, **environment, "PYTHONPATH": path},
            cwd=elsewhere,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert status in (None, done.returncode), (
            f"ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    return run


class SimulatedRuntime(Runtime):
    """The tables of `sim`, whose ranks may share a device: that gives a way to keep a stream busy."""

    def gate(self, stream: c_void_p) -> Callable[[], None]:
        """Make a stream wait until the returned function is called."""
        communicators = (c_void_p * 2)()
        self.ccl.init_all(2, (c_int32 * 2)(0, 0), communicators)
        other = self.stream()
        self.ccl.barrier(c_void_p(communicators[0]), stream)
        closed = [True]

        def release() -> None:
            if closed:
                closed.clear()
                self.ccl.barrier(c_void_p(communicators[1]), other)
                self.stream_synchronize(other)
                for communicator in communicators:
                    self.ccl.destroy(c_void_p(communicator))

        self.undo.append(release)
        return release


@pytest.fixture
def runtime() -> Iterator[SimulatedRuntime]:
    sim.enable()
    made = SimulatedRuntime("sim")
    yield made
    alone(made.close)()
