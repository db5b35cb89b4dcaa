# Builds the CUDA double, and against it the sources of infinicore-cuda, kernels for the host executor.
# What has not changed since the last time is kept; ccache is used where it is installed.
"""Build the double: ``python build.py FOLDER`` leaves its libraries beside libinfinicore_cuda.so."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import infinicore
from infinicore.build import execute, prerequisites, run_parallel, stale

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SOURCES = ROOT / "infinicore-cuda" / "src" / "infinicore_cuda"
INCLUDE = Path(infinicore.__file__).resolve().parent / "include"
#: Libraries of the SDK, the source of each, and what it needs of the others.
LIBRARIES = {
    "libcudart.so.13": ("runtime.cpp", []),
    "libcuda.so.1": ("driver.cpp", ["libcudart.so.13"]),
    "libnvidia-ml.so.1": ("driver.cpp", ["libcudart.so.13"]),
    "libnccl.so.2": ("nccl.cpp", ["libcudart.so.13"]),
    "libcublasLt.so.13": ("cublaslt.cpp", ["libcudart.so.13"]),
}
PLUGIN = "libinfinicore_cuda.so"


def host_executor() -> Any:
    """Import the build script of the host executor, which knows the kernels and their flags."""
    spec = importlib.util.spec_from_file_location("simt_build", HERE.parent / "simt" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(folder: Path) -> Path:
    """Build everything into a folder; objects lie in a folder below."""
    simt = host_executor()
    objects = folder / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    cached = [*(["ccache"] if shutil.which("ccache") else []), *compiler]
    include = [f"-I{HERE / 'include'}", f"-I{HERE.parent}", f"-I{INCLUDE}", f"-I{SOURCES}"]
    names = {"NAME": "cuda", "VENDOR": "NVIDIA", "VERSION": "double"}
    defines = [f'-DINFINI_{name}="{text}"' for name, text in names.items()]
    flags = [*simt.FLAGS, *defines, "-DINFINI_WARP_WIDTH=32", *include]

    units = [*sorted(SOURCES.glob("*.cpp")), HERE / "launch.cpp", HERE / "products.cpp"]
    units.append(HERE.parent / "simt" / "simt.cpp")
    for header in simt.families():
        unit = objects / f"kernels_{header.stem}.cpp"
        text = f"#include <infinicore/cudalike/{header.name}>\n"
        if not unit.exists() or unit.read_text() != text:
            unit.write_text(text)
        units.append(unit)
    plugin = [objects / f"{unit.stem}.o" for unit in units]
    sdk = {source: objects / f"sdk_{Path(source).stem}.o" for source, _ in LIBRARIES.values()}
    jobs = [*zip(units, plugin, strict=True), *((HERE / source, target) for source, target in sdk.items())]

    def compile_one(job: tuple[Path, Path]) -> None:
        source, target = job
        depfile = target.with_suffix(".d")
        outputs = ("-MMD", "-MF", str(depfile), "-c", str(source), "-o", str(target))
        command = [*cached, *flags, *outputs]
        if stale(target, command, prerequisites(depfile)):
            execute(command, target)

    def link(target: Path, inputs: list[Path], options: list[str]) -> None:
        command = [*compiler, "-shared", "-pthread", *options, *map(str, inputs), "-ldl", "-o", str(target)]
        if stale(target, command, inputs, objects / target.name):
            execute(command, objects / target.name)

    run_parallel(compile_one, jobs)
    for name, (source, needs) in LIBRARIES.items():
        link(folder / name, [sdk[source], *(folder / need for need in needs)], [f"-Wl,-soname,{name}"])
    link(folder / PLUGIN, [*plugin, folder / "libcudart.so.13"], [])
    return folder


def without(folder: Path, library: str, symbol: str, target: Path) -> None:
    """Link a library once more into the folder `target`, one function hidden: a release without it."""
    source, needs = LIBRARIES[library]
    script = target / "hidden.map"
    script.write_text(f"{{ local: {symbol}; }};\n")
    inputs = [str(folder / "objects" / f"sdk_{Path(source).stem}.o"), *(str(folder / need) for need in needs)]
    soname = f"-Wl,-soname,{library},--version-script,{script}"
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    execute(
        [*compiler, "-shared", "-pthread", soname, *inputs, "-o", str(target / library)], target / library
    )


if __name__ == "__main__":
    build(Path(sys.argv[1]))
