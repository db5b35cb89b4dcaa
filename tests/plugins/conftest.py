# What the tests of plug-ins share: wheels that are really built and installed, fresh interpreters that find
# them, and the tables of the simulated vendors in this process.
"""Fixtures of the plug-in tests."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ctypes import byref, c_int32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import pytest

from infinicore.testing import sim
from infinicore.testing.tables import Tables, alone

Python = Callable[..., "subprocess.CompletedProcess[str]"]
HERE = Path(__file__).parent
collect_ignore = ["example"]  # the example's own tests want it installed: tests/new runs them so
WHEELS = ("example", "stale", "newer", "next", "broken", "missing", "mismatch", "sim", "sim2")


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
            timeout=120,
        )
        assert status in (None, done.returncode), (
            f"ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    return run


class Runtime:
    """The runtime table of `sim` with results instead of out parameters; frees what a test made."""

    def __init__(self, name: str) -> None:
        self.tables = Tables.of(name)
        self.table, self.ccl = self.tables.runtime, self.tables.ccl
        self.undo: list[Callable[[], object]] = []

    def __getattr__(self, member: str) -> Any:
        return getattr(self.table, member)

    def make(self, member: str, *arguments: object, free: str | None = None) -> c_void_p:
        out = c_void_p()
        getattr(self.table, member)(*arguments, byref(out))
        if free is not None:
            self.undo.append(lambda: getattr(self.table, free)(out))
        return out

    def memory(self, size: int) -> c_void_p:
        return self.make("malloc_device", c_uint64(size), free="free_device")

    def pinned(self, size: int) -> ctypes.Array[ctypes.c_char]:
        address = self.make("malloc_host", c_uint64(size), free="free_host")
        return (ctypes.c_char * size).from_address(address.value)

    def stream(self) -> c_void_p:
        return self.make("stream_create", 0, free="stream_destroy")

    def event(self, flags: int = 0) -> c_void_p:
        return self.make("event_create", flags, free="event_destroy")

    def write(self, target: c_void_p, content: bytes) -> None:
        self.memcpy_sync(target, content, c_uint64(len(content)), 1)

    def read(self, source: c_void_p, size: int) -> bytes:
        content = ctypes.create_string_buffer(size)
        self.memcpy_sync(content, source, c_uint64(size), 2)
        return content.raw

    def copy(self, target: object, source: object, size: int, kind: int, stream: c_void_p | None) -> None:
        self.memcpy_async(target, source, c_uint64(size), kind, stream)

    def fill(self, target: c_void_p, value: int, size: int, stream: c_void_p | None) -> None:
        self.memset_async(target, value, c_uint64(size), stream)

    def free_bytes(self) -> int:
        free, total = c_uint64(), c_uint64()
        self.memory_info(byref(free), byref(total))
        return free.value

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
def runtime() -> Iterator[Runtime]:
    sim.enable()
    made = Runtime("sim")
    yield made

    @alone
    def undo() -> None:
        made.set_device(0)
        for step in reversed(made.undo):
            step()

    undo()
