# Compilers of device code for `infinicore.build`. NVIDIA's comes from PyPI, as build requirements of the
# wheel, or from a toolkit that CUDA_HOME names: neither a GPU nor an installed toolkit is needed.
"""Where the compiler of a ``.cu`` file is, and how it is called."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

__all__ = ["Nvcc"]


class Nvcc:
    """NVIDIA's compiler, and what of its toolkit host code needs.

    Parameters
    ----------
    architectures : str
        What to compile for, separated by semicolons: ``"80;90a"``. The environment variable `variable`, where
        it is set, replaces it. PTX is added for the newest one that later devices can translate.
    variable : str
        Name of that environment variable.

    Attributes
    ----------
    include_dirs : list of str
        Folders of the toolkit's headers; filled by `resolve`.
    link_flags : list of str
        How to link the runtime, statically.
    """

    suffixes = (".cu",)

    def __init__(self, architectures: str, variable: str = "INFINICORE_CUDA_ARCHS") -> None:
        self.names = self.parse(os.environ.get(variable) or architectures, variable)
        self.command: list[str] = []
        self.include_dirs: list[str] = []
        self.link_flags: list[str] = []

    @staticmethod
    def parse(text: str, variable: str) -> list[str]:
        """Split a list of architectures, and refuse what is none."""
        names = [name for name in re.split(r"[;,\s]+", text) if name]
        for name in names:
            if not re.fullmatch(r"\d{2,3}[af]?", name):
                raise ValueError(f"{variable}: {name!r} is no architecture; write for example 80;90a")
        if not names:
            raise ValueError(f"{variable} names no architecture; write for example 80;90a")
        return names

    def takes(self, source: Path) -> bool:
        """Tell whether a file is compiled: ``name_sm90a.cu`` is where 90a is among the architectures."""
        only = self._only(source)
        return only is None or only in self.names

    @staticmethod
    def _only(source: Path) -> str | None:
        found = re.search(r"_sm(\d{2,3}[af]?)$", source.stem)
        return found[1] if found else None

    def flags(self, source: Path = Path()) -> list[str]:
        """Code for every architecture, and PTX of the newest that is not specific to one chip.

        A file that is named after an architecture has code for that one alone.
        """
        if only := self._only(source):
            return [f"-gencode=arch=compute_{only},code=sm_{only}"]
        flags = [f"-gencode=arch=compute_{name},code=sm_{name}" for name in self.names]
        general = [name for name in self.names if name.isdigit()]
        if general:
            newest = max(general, key=int)
            flags.append(f"-gencode=arch=compute_{newest},code=compute_{newest}")
        return flags

    def resolve(self) -> None:
        """Find the toolkit: ``CUDA_HOME``, else the wheels installed beside this Python."""
        if home := os.environ.get("CUDA_HOME"):
            root, where = Path(home), "CUDA_HOME"
            if not (root / "bin" / "nvcc").is_file():
                raise FileNotFoundError(f"CUDA_HOME={home} has no bin/nvcc")
        else:
            root, where = self._wheels(), "the wheel nvidia-cuda-nvcc"
        candidates = [root / "include", *root.glob("targets/*/include")]
        include = next((folder for folder in candidates if (folder / "cuda_runtime_api.h").is_file()), None)
        libraries = [root / "lib64", root / "lib", *root.glob("targets/*/lib")]
        static = next((folder for folder in libraries if (folder / "libcudart_static.a").is_file()), None)
        if include is None or static is None:
            what = "cuda_runtime_api.h" if include is None else "libcudart_static.a"
            raise FileNotFoundError(f"{what} is not in {root} ({where}): pip install nvidia-cuda-runtime")
        self.command = [str(root / "bin" / "nvcc")]
        self.include_dirs = [str(include)]
        # Its symbols stay inside, so that another copy of the runtime in the process is not disturbed.
        self.link_flags = [f"-L{static}", "-lcudart_static", "-lrt", "-ldl", "-Wl,--exclude-libs,ALL"]
        if (static / "libculibos.a").is_file():
            self.link_flags.insert(2, "-lculibos")

    @staticmethod
    def _wheels() -> Path:
        from importlib.metadata import PackageNotFoundError, files

        try:
            found = [path.locate() for path in files("nvidia-cuda-nvcc") or () if path.match("*/bin/nvcc")]
        except PackageNotFoundError:
            found = []
        if not found:
            raise FileNotFoundError(
                "no CUDA compiler: pip install nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-cccl "
                "nvidia-cuda-runtime, or set CUDA_HOME to a toolkit"
            )
        return Path(str(found[0])).resolve().parents[1]

    def compile(
        self,
        host: Sequence[str],
        flags: Sequence[str],
        host_flags: Sequence[str],
        source: Path,
        target: Path,
        depfile: Path,
        include_dirs: Sequence[str],
    ) -> list[str]:
        """Return the command that compiles `source`; `host_flags` are for `host`, the C++ compiler behind."""
        *launchers, compiler = host
        ccache = shutil.which("ccache")
        return [
            *([ccache] if ccache else launchers),
            *self.command,
            *("-std=c++17", "-ccbin", compiler, f"-Xcompiler={','.join(host_flags)}"),
            *self.flags(source),
            "-Xfatbin=-compress-all",  # a seventh of the size; nvcc itself compresses PTX alone
            *flags,
            *(f"-I{directory}" for directory in include_dirs),
            *("-MMD", "-MF", str(depfile), "-c", str(source), "-o", str(target)),
        ]
