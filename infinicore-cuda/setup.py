# How the wheel is built: NVIDIA's compiler comes from PyPI (see pyproject.toml), or from CUDA_HOME.
# infinicore.build knows the rest: headers, capsule, entry point, requirement on core.
"""Build infinicore-cuda."""

from pathlib import Path

from infinicore.build import cudalike_sources, setup_backend
from infinicore.toolkit import Nvcc

folder = Path("src/infinicore_cuda")
compiler = Nvcc("80;86;89;90a;100;120")
for_one_chip = filter(compiler.takes, sorted(folder.glob("*/*.cu")))

setup_backend(
    "cuda",
    vendor="NVIDIA",
    sources=[*sorted(folder.glob("*.cpp")), *for_one_chip, *cudalike_sources(".cu")],
    include_dirs=[folder],
    device_compiler=compiler,
)
