# What is in the wheels, what they ask for, and what installing them gives.
# The version stands in one file, and everything else is read from there.
"""Wheels and their metadata."""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

import infinicore


def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def version(root: Path) -> str:
    return (root / "VERSION").read_text().strip()


def run(python: Path, code: str) -> str:
    # -I leaves out the current folder and PYTHONPATH: what is imported is what was installed.
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- one version -----------------------------------------------------------------------------------


def test_version_stands_in_one_place(root: Path) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", version(root))
    for folder in root.glob("infinicore-*/"):
        if (folder / "pyproject.toml").is_file():
            assert (folder / "VERSION").is_symlink()
            assert (folder / "VERSION").resolve() == (root / "VERSION").resolve()


def test_version_of_what_is_installed(root: Path) -> None:
    from importlib.metadata import version as installed

    assert infinicore.__version__ == installed("infinicore-core") == version(root)


# ---- wheels ----------------------------------------------------------------------------------------


def test_core_holds_what_plug_ins_and_c_programs_need(core_wheel: Path) -> None:
    found = set(names(core_wheel))
    include = "infinicore/include/"
    for name in (
        "infinicore/capsule.pyx",
        "infinicore/build.py",
        "infinicore/abi.pxd",
        "infinicore/py.typed",
        include + "infinicore.h",
        include + "infinirt.h",
        include + "infiniccl.h",
        include + "infinicore/abi.h",
        include + "infinicore/plugin.hpp",
        include + "infinicore/operators.h",
        include + "infinicore/operators/add.h",
        # and a C program
        include + "infiniop.h",
        include + "infiniop/handle.h",
        include + "infiniop/ops/add.h",
        include + "infinicore.hpp",
        include + "infiniop/operators.hpp",
        "infinicore/lib/libinfinirt.so",
        "infinicore/lib/libinfiniop.so",
        "infinicore/lib/libinfiniccl.so",
        "infinicore/lib/libinfinicore_cpu.so",
        "infinicore/lib/pkgconfig/infinicore.pc",
        "infinicore/lib/cmake/infinicore/infinicoreConfig.cmake",
    ):
        assert name in found
    for module in ("_backend", "_device", "_dispatch", "_dtype", "_storage", "_tensor"):
        assert any(name.startswith(f"infinicore/{module}.") and name.endswith(".so") for name in found)


def test_core_holds_nothing_else(core_wheel: Path) -> None:
    for name in names(core_wheel):
        assert name.startswith(("infinicore/", "libinfiniop/__init__.py", "infinicore_core-")), name
        assert not name.endswith((".c", ".o", ".pyc", ".a")), name
        assert "/tests/" not in name or "/new/templates/" in name, name


def test_core_is_built_for_one_python(core_wheel: Path) -> None:
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert f"-{tag}-{tag}" in core_wheel.name and "linux" in core_wheel.name


def test_core_has_a_size_budget(core_wheel: Path) -> None:
    assert core_wheel.stat().st_size < 40e6


def test_libraries_need_only_the_system(core_wheel: Path, tmp_path: Path) -> None:
    need_only(r"libgomp|libdnnl|libinfinirt|libinfinicore_\w+", unpacked(core_wheel, tmp_path))


def unpacked(wheel: Path, folder: Path) -> list[Path]:
    """Unpack a wheel and list its shared objects."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return [path for path in folder.rglob("*.so*") if path.is_file()]


def need_only(libraries: str, objects: list[Path]) -> None:
    """Shared objects find each other beside themselves, and nothing of the machine that built them."""
    system = r"libc|libm|libdl|libpthread|librt|libgcc_s|libstdc\+\+|ld-linux[\w-]*"
    allowed = re.compile(rf"({system}|{libraries})\.so\b")
    assert objects
    for path in objects:
        dynamic = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic):
            assert allowed.match(library), f"{path.name} needs {library}"
        for runpath in re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", dynamic):
            assert runpath.startswith("$ORIGIN"), f"{path.name} searches {runpath}"


def test_meta_distribution_is_empty_and_pins_core(wheels: Path, root: Path) -> None:
    (meta,) = wheels.glob("infinicore-*.whl")
    assert all(".dist-info/" in name for name in names(meta))
    about = metadata(meta)
    major, minor, _ = version(root).split(".")
    requires = about.get_all("Requires-Dist")
    assert f"infinicore-core~={major}.{minor}.0" in [text.replace(" ", "") for text in requires]
    extras = {"cuda", "ascend", "bang", "kunlun", "metax", "moore", "iluvatar", "hygon", "qy", "lm", "all"}
    assert set(about.get_all("Provides-Extra")) == extras
    assert about["Version"] == version(root)


# ---- installed -------------------------------------------------------------------------------------


def test_pip_install_infinicore(fresh: Path, root: Path) -> None:
    code = """
import infinicore as ic
a = ic.from_list([1.0, 2.0], dtype=ic.float32, device="cpu")
print(ic.__version__, (a + a).tolist())
"""
    assert run(fresh, code) == f"{version(root)} [2.0, 4.0]"


def test_module_command(fresh: Path) -> None:
    done = subprocess.run([fresh, "-I", "-m", "infinicore"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cpu" in done.stdout and "ready" in done.stdout


def test_bindings_of_the_c_api(fresh: Path) -> None:
    """Scripts import `libinfiniop`; neither PyTorch nor INFINI_ROOT is needed for that."""
    code = """
import sys
from libinfiniop import LIBINFINIOP, check_error, create_handle, destroy_handle
check_error(LIBINFINIOP.infinirtSetDevice(0, 0))
handle = create_handle()
print(handle.contents.device, "torch" in sys.modules)
destroy_handle(handle)
"""
    assert run(fresh, code) == "0 False"


def test_commands(fresh: Path) -> None:
    done = subprocess.run([fresh.parent / "infiniop-test", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--warmup" in done.stdout, done.stderr


def test_import_is_light(fresh: Path) -> None:
    """Neither NumPy nor PyTorch is imported, and no library of a vendor is mapped."""
    code = """
import sys
import infinicore
print(sorted({"numpy", "torch", "ml_dtypes", "inspect"} & set(sys.modules)))
names = ("libcuda", "libcublas", "libnccl", "libascendcl", "libcnrt", "libmusa", "libhsa", "libdnnl")
print([line for line in open("/proc/self/maps") if any(name in line for name in names)])
"""
    assert run(fresh, code).splitlines() == ["[]", "[]"]


# ---- wheels of vendors, where they were built --------------------------------------------------------


def test_vendor_wheel_is_for_every_python(vendor_wheel: Path, root: Path) -> None:
    assert "-cp310-abi3-" in vendor_wheel.name and "linux" in vendor_wheel.name
    about = metadata(vendor_wheel)
    major, minor, _ = version(root).split(".")
    requires = [text.replace(" ", "") for text in about.get_all("Requires-Dist")]
    assert f"infinicore-core~={major}.{minor}.0" in requires
    assert about["Version"] == version(root)


def test_vendor_wheel_holds_the_plug_in_alone(vendor: str, vendor_wheel: Path) -> None:
    package = {name for name in names(vendor_wheel) if ".dist-info/" not in name}
    files = ("__init__.py", "_backend.abi3.so", "known_failures.toml", f"libinfinicore_{vendor}.so")
    assert package == {f"infinicore_{vendor}/{name}" for name in files}


def test_vendor_wheel_has_a_size_budget(vendor_wheel: Path) -> None:
    assert vendor_wheel.stat().st_size < 100e6  # what PyPI takes


def test_vendor_wheel_needs_only_the_system(vendor: str, vendor_wheel: Path, tmp_path: Path) -> None:
    """No library of the vendor's; and a runtime that is linked statically does not show."""
    objects = unpacked(vendor_wheel, tmp_path)
    need_only(f"libinfinicore_{vendor}", objects)
    (library,) = [path for path in objects if path.name == f"libinfinicore_{vendor}.so"]
    listing = ["nm", "--dynamic", "--defined-only", "--format=posix", library]
    defined = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in defined.splitlines()} == {"infinicore_backend"}


def test_vendor_wheel_without_a_device(vendor: str, fresh_with_vendor: Path) -> None:
    """It installs and imports, says what is missing and what helps, and the CPU works; nothing is mapped."""
    code = f"""
import infinicore as ic
a = ic.from_list([1.0, 2.0], dtype=ic.float32, device="cpu")
print((a + a).tolist(), "infinicore_{vendor}" in open("/proc/self/maps").read())
"""
    assert run(fresh_with_vendor, code) == "[2.0, 4.0] False"
    command = [fresh_with_vendor, "-I", "-m", "infinicore"]
    said = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout
    (found,) = [entry for entry in json.loads(said)["backends"] if entry["name"] == vendor]
    if found["state"] == "ready":
        pytest.skip("this machine has such a device")
    assert found["state"] == "unavailable" and found["reason"]
    assert "try: " in subprocess.run(command, capture_output=True, text=True).stdout


def test_vendor_wheel_of_cuda_has_every_kernel_for_every_architecture(wheels: Path, tmp_path: Path) -> None:
    """Each family of kernels has code for the same architectures, and PTX; Hopper's for its own alone."""
    found = [*wheels.glob("infinicore_cuda-*.whl")]
    if not found:
        pytest.skip("no wheel of infinicore-cuda")
    (library,) = [path for path in unpacked(found[0], tmp_path) if path.name == "libinfinicore_cuda.so"]

    def listed(what: str) -> Counter[str]:
        done = subprocess.run([cuobjdump(), f"--list-{what}", library], capture_output=True, text=True)
        return Counter(re.findall(r"\.sm_(\w+)\.(?:cubin|ptx)$", done.stdout, re.MULTILINE))

    code, ptx = listed("elf"), listed("ptx")
    families = len(cudalike_families())
    hopper = {"90a": families + 1} if "90a" in code else {}  # attention_sm90a.cu
    assert code == dict.fromkeys(code, families) | hopper
    newest = max(filter(str.isdigit, code), key=int, default=None)
    assert ptx == ({newest: families} if newest else {})


def cudalike_families() -> list[Path]:
    """List the headers of core with kernels, of each of which there is one object."""
    folder = Path(infinicore.__file__).parent / "include" / "infinicore" / "cudalike"
    return [path for path in folder.glob("*.hpp") if "\nINFINI_CUDALIKE_KERNEL(" in path.read_text()]


def cuobjdump() -> str:
    """NVIDIA's tool, of the wheel nvidia-cuda-cuobjdump or of a toolkit."""
    folders = [Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin", "/usr/local/cuda/bin"]
    path = os.pathsep.join(map(str, [*folders, os.environ["PATH"]]))
    return shutil.which("cuobjdump", path=path) or pytest.skip("pip install nvidia-cuda-cuobjdump")


# ---- sources ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("project", [".", "infinicore-core"])
def test_source_distribution(project: str, root: Path, tmp_path: Path) -> None:
    """A source distribution holds VERSION and LICENSE as files of its own, and what a build needs."""
    code = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        cwd=copied(root / project, tmp_path),
        check=True,
        capture_output=True,
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        members = {member.name.split("/", 1)[-1]: member for member in content.getmembers()}
    for name in ("VERSION", "LICENSE", "setup.py", "pyproject.toml"):
        assert members[name].isreg(), name
    if project != ".":
        for name in ("capsule.pyx", "_tensor.pyx", "include/infinicore/abi.h", "cpu/backend.cpp"):
            assert f"src/infinicore/{name}" in members
        assert not [name for name in members if name.endswith((".so", ".o"))]


def copied(project: Path, folder: Path) -> Path:
    """Copy what a source distribution is made from, so that building it leaves nothing in the tree."""
    target = folder / "source"
    ignore = shutil.ignore_patterns(
        ".git", ".nox", ".venv", "dist", "build", "*.egg-info", "*.so", "__pycache__", "examples"
    )
    shutil.copytree(project, target, ignore=ignore)
    return target
