# infinicore-cuda looks for NVIDIA's libraries itself, since it serves C programs: it has to find the very
# file that cuda-pathfinder finds. Both search layouts of fake libraries, in processes that have loaded none.
from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import venv
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

HERE = Path(__file__).parent
SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
SONAMES = {
    "cublasLt": ["libcublasLt.so.13", "libcublasLt.so.12"],
    "nccl": ["libnccl.so.2"],
    "cuda": ["libcuda.so.1"],
    "nvml": ["libnvidia-ml.so.1"],
}
#: Folders of the layout that a library may lie in, and the variable that has to say so.
PLACES = {
    "elsewhere": "",  # from where the process has loaded it already
    f"venv/{SITE}/nvidia/cu13/lib": "",
    f"venv/{SITE}/nvidia/cublas/lib": "",
    f"venv/{SITE}/nvidia/nccl/lib": "",
    f"user/{SITE}/nvidia/cu13/lib": "",
    f"user/{SITE}/nvidia/cublas/lib": "",
    f"user/{SITE}/nvidia/nccl/lib": "",
    "conda/lib64": "CONDA_PREFIX",
    "conda/lib": "CONDA_PREFIX",
    "loader": "",  # in LD_LIBRARY_PATH
    "nccl/lib": "NCCL_HOME",
    "nccl/lib64": "NCCL_HOME",
    "nccl/build/lib": "NCCL_HOME",
    "toolkit/lib64": "CUDA_PATH",
    "toolkit/lib": "CUDA_PATH",
    "other/lib64": "CUDA_HOME",
    "other/lib": "CUDA_HOME",
}
#: Where cuda-pathfinder finds each; everywhere else its files must not be taken.
SEARCHED = {
    "cublasLt": [place for place in PLACES if "nccl/" not in place],
    "nccl": [place for place in PLACES if "cu13" not in place and "cublas" not in place],
    "cuda": ["elsewhere", "loader"],
    "nvml": ["elsewhere", "loader"],
}
#: Where it finds nothing we look here, too, and in CUDA_HOME although CUDA_PATH is set.
LAST_RESORT = ("/usr/local/cuda", "/usr/local/nvidia", "/usr/lib/wsl")


class Layout(NamedTuple):
    root: Path
    search: Callable[[list[dict[str, Any]]], list[list[str]]]

    def case(self, name: str, placed: dict[str, list[str]], variables: set[str]) -> dict[str, Any]:
        """A case of library_search.py: sonames in places, and which variables are set."""
        fake = self.root / "fake"
        files = [
            (str(fake / soname), str(self.root / place / soname))
            for place, sonames in placed.items()
            for soname in sonames
        ]
        homes = {variable: self.root / place.split("/")[0] for place, variable in PLACES.items()}
        return {
            "name": name,
            "files": files,
            "environment": {variable: str(homes[variable]) for variable in variables},
            "loaded": [target for _, target in files if "/elsewhere/" in target],
        }


@pytest.fixture(scope="module")
def simt(build: ModuleType) -> Any:
    return build.host_executor()


@pytest.fixture(scope="module")
def objects(build: ModuleType, simt: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel's tables of libraries, and what asks them."""
    folder = tmp_path_factory.mktemp("objects")
    flags = [f"-I{build.SOURCES}", "-g0"]
    sources = {
        "tables": (build.SOURCES / "libraries.cpp", flags),
        "probe": (HERE / "libraries.cpp", flags),
        "main": (HERE / "libraries.cpp", [*flags, "-DMAIN"]),
    }
    found = {name: folder / f"{name}.o" for name in sources}
    simt.compile_all({found[name]: source for name, source in sources.items()})
    return found


@pytest.fixture(scope="module")
def layout(simt: Any, objects: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """An environment without any library, and a Python in it that searches."""
    root = tmp_path_factory.mktemp("layout").resolve()
    for place in ("fake", "packages/cuda", *PLACES):
        (root / place).mkdir(parents=True)
    empty = root / "fake" / "empty.cpp"
    empty.touch()
    simt.compile_all({empty.with_suffix(".o"): (empty, ())})
    for sonames in SONAMES.values():
        for soname in sonames:
            simt.link(root / "fake" / soname, [empty.with_suffix(".o")], [f"-Wl,-soname,{soname}"])
    probe = root / "probe.so"  # as of an editable install: in no site-packages
    simt.link(probe, [objects["probe"], objects["tables"]])
    venv.create(root / "venv", system_site_packages=True, symlinks=True)  # one that knows the user's folder
    package = find_spec("cuda.pathfinder")
    assert package is not None and package.submodule_search_locations
    (root / "packages" / "cuda" / "pathfinder").symlink_to(package.submodule_search_locations[0])
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(root / "packages"),
        "PYTHONUSERBASE": str(root / "user"),
        "LD_LIBRARY_PATH": str(root / "loader"),
    }

    def search(cases: list[dict[str, Any]]) -> list[list[str]]:
        done = subprocess.run(
            [root / "venv" / "bin" / "python", HERE / "library_search.py", probe],
            input=json.dumps(cases), env=environment, cwd=root, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return Layout(root, search)


@pytest.mark.parametrize("name", SONAMES)
def test_the_same_file_as_cuda_pathfinder(layout: Layout, name: str) -> None:
    """Files of every soname in any place, any of the variables set: both find the same, or nothing."""
    draw = random.Random(name)
    searched = SEARCHED[name]
    variables = {PLACES[place] for place in PLACES} - {""}
    cases = [layout.case(name, {}, variables)]
    for place, variable in PLACES.items():
        cases += [layout.case(name, {place: [soname]}, {variable} - {""}) for soname in SONAMES[name]]
    for _ in range(100):
        some = draw.sample([*PLACES], 5)
        placed = {place: [soname for soname in SONAMES[name] if draw.random() < 0.6] for place in some}
        cases.append(layout.case(name, placed, {v for v in variables if draw.random() < 0.7}))
    other = str(layout.root / "other")
    answers = layout.search(cases)
    for case, (ours, theirs) in zip(cases, answers, strict=True):
        if theirs:
            assert ours == theirs, case
        else:
            assert not ours or ours.startswith((other, *LAST_RESORT)), case
    machine_has_it = answers[0][1] or answers[0][0]
    if not machine_has_it:  # then each place was the best one of some case
        won = {str(Path(ours).parent.relative_to(layout.root)) for ours, _ in answers if ours}
        assert won == set(searched)


def test_where_we_go_on_and_it_gives_up(layout: Layout) -> None:
    """A file that cannot be opened does not hide a good one; nor does CUDA_PATH hide CUDA_HOME."""
    wheel = layout.root / "venv" / SITE / "nvidia" / "nccl" / "lib" / "libnccl.so.2"
    wheel.touch()
    try:
        broken = layout.case("nccl", {"loader": SONAMES["nccl"]}, set())
        ((ours, theirs),) = layout.search([broken])
    finally:
        wheel.unlink()
    assert ours == str(layout.root / "loader" / "libnccl.so.2")
    assert theirs.startswith("RuntimeError: Failed to dlopen") and str(wheel) in theirs
    both = layout.case("nccl", {"other/lib64": SONAMES["nccl"]}, {"CUDA_PATH", "CUDA_HOME"})
    ((ours, theirs),) = layout.search([both])
    if not theirs:  # the machine has none
        assert ours == str(layout.root / "other" / "lib64" / "libnccl.so.2")


def test_a_program_without_python_searches_the_wheels_beside_its_plug_in(
    layout: Layout, simt: Any, objects: dict[str, Path], tmp_path: Path
) -> None:
    package = tmp_path / "site-packages" / "infinicore_cuda"
    wheel = tmp_path / "site-packages" / "nvidia" / "nccl" / "lib"
    for folder in (package, wheel):
        folder.mkdir(parents=True)
    library, program = package / "libinfinicore_cuda.so", tmp_path / "program"
    simt.link(library, [objects["probe"], objects["tables"]])
    link = [*simt.compiler(), objects["main"], library, f"-Wl,-rpath,{package}", "-o", program]
    subprocess.run(link, check=True)
    (wheel / "libnccl.so.2").hardlink_to(layout.root / "fake" / "libnccl.so.2")
    done = subprocess.run([program, "nccl"], env={}, capture_output=True, text=True, check=True)
    assert done.stdout == f"{wheel}/libnccl.so.2\n"
