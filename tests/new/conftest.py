# What the tests of the scaffolds share: the command, and pytest in a process that finds what was written.
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run() -> Run:
    """Run a fresh interpreter, which finds modules in `path` too; keyword arguments are its environment."""

    def run(
        *arguments: object,
        path: Path | None = None,
        cwd: Path | None = None,
        status: int = 0,
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "INFINICORE_TEST_WHEELS"}
        places = [str(path)] if path else []
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [*places, environment.get("PYTHONPATH", "")])
        )
        # Compiling is most of the time, and nobody measures what is compiled here.
        environment |= {"CFLAGS": "-O0", "CXXFLAGS": "-O0", "HYPOTHESIS_PROFILE": "smoke", **variables}
        done = subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True
        )
        assert done.returncode == status, done.stdout[-4000:] + done.stderr[-4000:]
        return done

    return run
