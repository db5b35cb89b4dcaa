# Compiles infinicore/cudalike for the host executor: one object per family of kernels, one library per warp
# width. What does not depend on the width is compiled once; ccache is used where it is installed.
"""Build the host executor's backends: ``python build.py FOLDER [WIDTH ...]``."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import infinicore

HERE = Path(__file__).resolve().parent
INCLUDE = Path(infinicore.__file__).resolve().parent / "include"
CUDALIKE = INCLUDE / "infinicore" / "cudalike"
WIDTHS = (32, 64, 128)
FLAGS = ["-std=c++17", "-O1", "-g0", "-fPIC", "-Wall", "-Wextra", "-Werror"]
FLAGS += ["-fvisibility=hidden", "-fno-gnu-unique", '-DINFINI_DIALECT="simt/dialect.hpp"']


def families() -> list[Path]:
    """List the headers that define operators, each of which is one object."""
    return sorted(h for h in CUDALIKE.glob("*.hpp") if "\nINFINI_CUDALIKE_KERNEL(" in h.read_text())


def depends_on_width(header: Path) -> bool:
    """Tell whether kernels use warps: those of this header, or what it includes of its folder."""
    text = header.read_text()
    included = re.findall(r'^#include "(\w+\.hpp)"', text, re.MULTILINE)
    return "shuffle" in text or any(
        depends_on_width(header.parent / name) for name in included if name != "dialect.hpp"
    )


def build(folder: Path, widths: tuple[int, ...] = WIDTHS) -> Path:
    """Build ``libinfinicore_simt<width>.so`` in a folder, which ``INFINICORE_BACKEND_PATH`` may then list."""
    folder.mkdir(parents=True, exist_ok=True)
    compiler = [*(["ccache"] if shutil.which("ccache") else []), *shlex.split(os.environ.get("CXX", "c++"))]
    extra = shlex.split(os.environ.get("CXXFLAGS", ""))
    jobs: dict[Path, list[str]] = {}
    objects: dict[int, list[Path]] = {width: [] for width in widths}
    for source in [HERE / "simt.cpp", HERE / "backend.cpp", *families()]:
        for width in widths:
            sensitive = source.name == "backend.cpp" or (source.suffix == ".hpp" and depends_on_width(source))
            lanes = width if sensitive else WIDTHS[0]
            target = folder / f"{source.stem}.{lanes}.o"
            objects[width].append(target)
            if source.suffix == ".hpp":
                unit = folder / f"{source.stem}.cpp"
                unit.write_text(f"#include <infinicore/cudalike/{source.name}>\n")
            else:
                unit = source
            includes = [f"-I{HERE.parent}", f"-I{INCLUDE}"]
            define = f"-DINFINI_WARP_WIDTH={lanes}"
            jobs[target] = [*compiler, *FLAGS, define, *includes, *extra, "-c", str(unit), "-o", str(target)]
    workers = int(os.environ.get("INFINICORE_BUILD_JOBS") or os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(execute, jobs.values()):
            pass
    for width in widths:
        library = folder / f"libinfinicore_simt{width}.so"
        plain = [word for word in compiler if word != "ccache"]
        execute([*plain, "-shared", "-pthread", *extra, *map(str, objects[width]), "-o", str(library)])
    return folder


def execute(command: list[str]) -> None:
    """Run a command; its output is the error when it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}\n{done.stdout}{done.stderr}"[:8000])


if __name__ == "__main__":
    build(Path(sys.argv[1]), tuple(map(int, sys.argv[2:])) or WIDTHS)
