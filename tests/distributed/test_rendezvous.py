# infinicore/rendezvous.hpp, with which plug-ins exchange what infinicclUniqueId_t has no room for: compiled
# as a plug-in's author compiles it, and used by several processes.
"""How ranks get a vendor's unique id that is larger than the public one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import infinicore as ic

HERE = Path(__file__).parent
INCLUDE = Path(ic.__file__).parent / "include"


def test_every_rank_gets_the_id(tmp_path: Path) -> None:
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    program = tmp_path / "rendezvous"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{INCLUDE}"]
    subprocess.run([compiler, *flags, str(HERE / "data" / "rendezvous.cpp"), "-o", str(program)], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == [
        "fits 1",
        "103 init_rank: the rank that made the unique id does not answer ",
        "all 1",
        "103 init_rank: the rank that made the unique id does not answer ",
        "3 init_rank: the unique id was not made by this backend",
    ]
