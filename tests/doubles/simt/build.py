# Compiles infinicore/cudalike for the host executor: one object per family of kernels, one library per warp
# width. What does not depend on the width is compiled once; ccache is used where it is installed.
"""Build the host executor's backends: ``python build.py FOLDER [WIDTH ...]``."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import infinicore
from infinicore.build import execute, prerequisites, run_parallel, stale

HERE = Path(__file__).resolve().parent
INCLUDE = Path(infinicore.__file__).resolve().parent / "include"
CUDALIKE = INCLUDE / "infinicore" / "cudalike"
WIDTHS = (32, 64, 128)
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-psabi"]
FLAGS += ["-fvisibility=hidden", "-fno-gnu-unique"]
FLAGS += ['-DINFINI_DIALECT="simt/dialect.hpp"', f"-I{HERE.parent}", f"-I{INCLUDE}"]
#: Of kernels: every access to memory is a call of check.cpp, which names the lines of a race.
WATCHED = ["-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0", "-g1"]
EXECUTOR = [HERE / "simt.cpp", HERE / "check.cpp"]


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


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX", "c++"))


def compile_all(jobs: dict[Path, tuple[Path, Sequence[str]]]) -> None:
    """Compile each object that is out of date, of a source with some flags; CXXFLAGS come last."""
    cached = [*(["ccache"] if shutil.which("ccache") else []), *compiler()]
    extra = shlex.split(os.environ.get("CXXFLAGS", ""))

    def compile_one(target: Path) -> None:
        source, flags = jobs[target]
        depfile = target.with_suffix(".d")
        language = ["-x", "c++"] if source.suffix == ".cu" else []
        outputs = (*language, "-MMD", "-MF", str(depfile), "-c", str(source), "-o", str(target))
        command = [*cached, *FLAGS, *flags, *extra, *outputs]
        if stale(target, command, prerequisites(depfile)):
            execute(command, target)

    run_parallel(compile_one, jobs)


def link(
    target: Path, inputs: Sequence[Path], options: Sequence[str] = (), record: Path | None = None
) -> None:
    """Link a shared library, unless it is up to date."""
    extra = [flag for flag in shlex.split(os.environ.get("CXXFLAGS", "")) if flag == "--coverage"]
    command = [
        *compiler(),
        "-shared",
        "-pthread",
        *extra,
        *options,
        *map(str, inputs),
        "-ldl",
        "-o",
        str(target),
    ]
    if stale(target, command, inputs, record):
        execute(command, record or target)


def objects(folder: Path, widths: Sequence[int]) -> dict[int, list[Path]]:
    """Compile the executor and every family of kernels into a folder; return the objects of each width."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    jobs: dict[Path, tuple[Path, Sequence[str]]] = {}
    found: dict[int, list[Path]] = {width: [] for width in widths}
    for source in [*EXECUTOR, *families()]:
        kernels = source not in EXECUTOR
        unit = folder / f"{source.stem}.cpp" if kernels else source
        text = f"#include <infinicore/cudalike/{source.name}>\n"
        if kernels and not (unit.exists() and unit.read_text() == text):
            unit.write_text(text)
        for width in widths:
            lanes = width if kernels and depends_on_width(source) else WIDTHS[0]
            target = folder / f"{source.stem}.{lanes}.o"
            found[width].append(target)
            jobs[target] = (unit, [f"-DINFINI_WARP_WIDTH={lanes}", *(WATCHED if kernels else ["-g0"])])
    compile_all(jobs)
    return found


def build(folder: Path, widths: Sequence[int] = WIDTHS) -> Path:
    """Build ``libinfinicore_simt<width>.so`` in a folder, which ``INFINICORE_BACKEND_PATH`` may then list."""
    folder = folder.resolve()
    kernels = objects(folder / "objects", widths)
    backends = {width: folder / "objects" / f"backend.{width}.o" for width in widths}
    source = HERE / "backend.cpp"
    compile_all({target: (source, [f"-DINFINI_WARP_WIDTH={w}", "-g0"]) for w, target in backends.items()})
    for width in widths:
        name = f"libinfinicore_simt{width}.so"
        link(folder / name, [*kernels[width], backends[width]], record=folder / "objects" / name)
    return folder


if __name__ == "__main__":
    build(Path(sys.argv[1]), tuple(map(int, sys.argv[2:])) or WIDTHS)
