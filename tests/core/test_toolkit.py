# The device compiler of infinicore.toolkit: what it is asked for, and what it says where it is not there.
# No CUDA toolkit is needed: a folder that looks like one will do.
from __future__ import annotations

from pathlib import Path

import pytest

from infinicore.toolkit import Nvcc


@pytest.fixture
def toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that a toolkit is known by."""
    for name in ("bin/nvcc", "targets/x/include/cuda_runtime_api.h", "lib64/libcudart_static.a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.delenv("INFINICORE_CUDA_ARCHS", raising=False)
    return tmp_path


def test_code_for_each_architecture_and_ptx_of_the_newest_general_one() -> None:
    assert Nvcc("80;90a;100", variable="UNSET").flags() == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_100,code=sm_100",
        "-gencode=arch=compute_100,code=compute_100",
    ]
    assert Nvcc("90a", variable="UNSET").flags() == ["-gencode=arch=compute_90a,code=sm_90a"]


def test_a_file_that_is_named_after_an_architecture_is_for_that_one_alone() -> None:
    every, one = Path("norms.cu"), Path("hopper/attention_sm90a.cu")
    with_it, without = Nvcc("80;90a", variable="UNSET"), Nvcc("80;100", variable="UNSET")
    assert with_it.flags(one) == ["-gencode=arch=compute_90a,code=sm_90a"]
    assert with_it.flags(every) == with_it.flags()
    assert [with_it.takes(one), without.takes(one), without.takes(every)] == [True, False, True]


def test_the_environment_chooses_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINICORE_CUDA_ARCHS", "75, 86")
    assert Nvcc("80").names == ["75", "86"]
    for wrong in ("sm_90", ";"):
        monkeypatch.setenv("INFINICORE_CUDA_ARCHS", wrong)
        with pytest.raises(ValueError, match=r"INFINICORE_CUDA_ARCHS.*write for example 80;90a"):
            Nvcc("80")


def test_the_toolkit_of_cuda_home(toolkit: Path) -> None:
    nvcc = Nvcc("90")
    nvcc.resolve()
    command = nvcc.compile(
        ["ccache", "g++"], ["-DA=1"], ["-fPIC", "-g0"], Path("a.cu"), Path("a.o"), Path("a.d"), ["include"]
    )
    assert str(toolkit / "bin" / "nvcc") in command
    assert command[command.index("-ccbin") + 1] == "g++"
    assert {"-Xcompiler=-fPIC,-g0", "-DA=1", "-Iinclude", "-Xfatbin=-compress-all"} <= set(command)
    assert nvcc.include_dirs == [str(toolkit / "targets" / "x" / "include")]
    assert f"-L{toolkit / 'lib64'}" in nvcc.link_flags and "-lcudart_static" in nvcc.link_flags


@pytest.mark.parametrize(
    "name", ["bin/nvcc", "lib64/libcudart_static.a", "targets/x/include/cuda_runtime_api.h"]
)
def test_what_a_toolkit_lacks_is_named(toolkit: Path, name: str) -> None:
    (toolkit / name).unlink()
    with pytest.raises(FileNotFoundError, match=name.rsplit("/", 1)[1]):
        Nvcc("90").resolve()
