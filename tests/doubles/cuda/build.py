# Builds the CUDA double, and against it the sources of infinicore-cuda, kernels for the host executor.
# What has not changed since the last time is kept; ccache is used where it is installed.
"""Build the double: ``python build.py FOLDER`` leaves its libraries beside libinfinicore_cuda.so."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SOURCES = ROOT / "infinicore-cuda" / "src" / "infinicore_cuda"
#: Libraries of the SDK, the source of each, and what it needs of the others.
LIBRARIES = {
    "libcudart.so.13": ("runtime.cpp", []),
    "libcuda.so.1": ("driver.cpp", ["libcudart.so.13"]),
    "libnvidia-ml.so.1": ("driver.cpp", ["libcudart.so.13"]),
    "libnccl.so.2": ("nccl.cpp", ["libcudart.so.13"]),
    "libcublasLt.so.13": ("cublaslt.cpp", ["libcudart.so.13"]),
}
PLUGIN = "libinfinicore_cuda.so"
#: What stands for the instructions of Hopper.
HOPPER = HERE.parent / "simt" / "hopper.cpp"
HOPPER_FLAGS = ['-DINFINI_HOPPER="simt/hopper.hpp"']


def host_executor() -> Any:
    """Import the build script of the host executor, which knows the kernels and their flags."""
    spec = importlib.util.spec_from_file_location("simt_build", HERE.parent / "simt" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(folder: Path) -> Path:
    """Build everything into a folder; objects lie in a folder below, those of kernels where simt has them."""
    simt = host_executor()
    folder = folder.resolve()
    objects = folder / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    names = {"NAME": "cuda", "VENDOR": "NVIDIA", "VERSION": "double"}
    flags = [*(f'-DINFINI_{name}="{text}"' for name, text in names.items()), "-DINFINI_WARP_WIDTH=32", "-g0"]
    flags += [f"-I{HERE / 'include'}", f"-I{SOURCES}", *HOPPER_FLAGS]
    units = [*sorted(SOURCES.glob("*.cpp")), *sorted(SOURCES.glob("*/*.cu"))]
    units += [HERE / "launch.cpp", HERE / "products.cpp", HOPPER]
    plugin = {objects / f"{unit.stem}.o": unit for unit in units}
    sdk = {source: objects / f"sdk_{Path(source).stem}.o" for source, _ in LIBRARIES.values()}
    sources = {**plugin, **{target: HERE / source for source, target in sdk.items()}}
    kinds = {".cu": [*flags, *simt.WATCHED], ".cpp": flags}
    simt.compile_all({target: (source, kinds[source.suffix]) for target, source in sources.items()})
    kernels = simt.objects(folder.parent / "simt" / "objects", (32,))[32]
    for name, (source, needs) in LIBRARIES.items():
        inputs = [sdk[source], *(folder / need for need in needs)]
        simt.link(folder / name, inputs, [f"-Wl,-soname,{name}"], objects / name)
    simt.link(folder / PLUGIN, [*plugin, *kernels, folder / "libcudart.so.13"], record=objects / PLUGIN)
    return folder


def without(folder: Path, library: str, symbol: str, target: Path) -> None:
    """Link a library once more into the folder `target`, one function hidden: a release without it."""
    source, needs = LIBRARIES[library]
    script = target / "hidden.map"
    script.write_text(f"{{ local: {symbol}; }};\n")
    inputs = [folder / "objects" / f"sdk_{Path(source).stem}.o", *(folder / need for need in needs)]
    hidden = f"-Wl,-soname,{library},--version-script,{script}"
    host_executor().link(target / library, inputs, [hidden])


if __name__ == "__main__":
    build(Path(sys.argv[1]))
