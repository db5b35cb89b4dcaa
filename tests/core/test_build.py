# infinicore.build: what is recompiled when, for which machine, and what a plug-in's wheel says about itself.
# Whole wheels are built by tests/packaging and tests/plugins.
"""Tests of the build helpers."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infinicore import build


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder to build in, with one C++ file that includes one header."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.cpp").write_text(
        '#include "one.h"\n#ifndef NAME\n#define NAME one\n#endif\nint NAME() { return ANSWER; }\n'
    )
    (tmp_path / "one.h").write_text("#define ANSWER 1\n")
    return tmp_path


def command_for(extension):
    from setuptools import Distribution

    command = build.BuildNative(Distribution({"name": "a-plugin", "ext_modules": [extension]}))
    command.ensure_finalized()
    return command


def compiled(monkeypatch):
    """Record what is compiled or linked."""
    seen = []
    execute = build.execute

    def record(command, target):
        seen.append(Path(target).name)
        execute(command, target)

    monkeypatch.setattr(build, "execute", record)
    return seen


def plain(*units):
    return build.Native("a.library", units, library_target="a/liba.so")


def test_only_what_changed_is_compiled_again(project, monkeypatch):
    seen = compiled(monkeypatch)
    extension = plain(build.Unit("one.cpp"), build.Unit("one.cpp", ["-DNAME=two"], tag="again"))
    everything = {"one.cpp.o", "one.cpp.again.o", "a.library.link"}

    command_for(extension).build_extensions()
    assert set(seen) == everything
    seen.clear()
    command_for(extension).build_extensions()
    assert seen == []

    later = (project / "one.h").stat().st_mtime + 100
    os.utime(project / "one.h", (later, later))  # a header counts
    command_for(extension).build_extensions()
    assert set(seen) == everything


def test_other_flags_compile_that_object_again(project, monkeypatch):
    seen = compiled(monkeypatch)
    command_for(
        plain(build.Unit("one.cpp"), build.Unit("one.cpp", ["-DNAME=two"], tag="again"))
    ).build_extensions()
    seen.clear()
    command_for(
        plain(build.Unit("one.cpp"), build.Unit("one.cpp", ["-DNAME=three"], tag="again"))
    ).build_extensions()
    assert seen == ["one.cpp.again.o", "a.library.link"]


def test_a_failed_compilation_is_repeated(project):
    (project / "one.h").write_text("#define ANSWER nothing\n")
    with pytest.raises(build.BuildError, match=r"one\.cpp"):
        command_for(plain(build.Unit("one.cpp"))).build_extensions()
    with pytest.raises(build.BuildError, match=r"one\.cpp"):
        command_for(plain(build.Unit("one.cpp"))).build_extensions()
    (project / "one.h").write_text("#define ANSWER 2\n")
    command_for(plain(build.Unit("one.cpp"))).build_extensions()


def test_kernel_files_may_not_run_code_at_load(project):
    (project / "one.cpp").write_text("int f();\nint late = f();\n")
    command_for(plain(build.Unit("one.cpp"))).build_extensions()
    with pytest.raises(
        build.BuildError, match=r"one\.cpp defines an object with dynamic initialisation.*x86_64_v4"
    ):
        command_for(plain(build.Unit("one.cpp", tag="x86_64_v4"))).build_extensions()


def test_build_only_names_extensions(monkeypatch, project):
    monkeypatch.setenv("INFINICORE_BUILD_ONLY", "b")
    extensions = [build.Native("infinicore.a._backend", []), build.Native("infinicore.b", [])]
    from setuptools import Distribution

    def finalized():
        command = build.BuildNative(Distribution({"name": "x", "ext_modules": [*extensions]}))
        command.ensure_finalized()
        return [extension.name for extension in command.extensions]

    assert finalized() == ["infinicore.b"]
    monkeypatch.setenv("INFINICORE_BUILD_ONLY", "a, b")
    assert finalized() == ["infinicore.a._backend", "infinicore.b"]
    monkeypatch.setenv("INFINICORE_BUILD_ONLY", "a,c")
    with pytest.raises(build.BuildError, match=r"names c; there are a, b"):
        finalized()


@pytest.mark.parametrize(
    ("cc", "cxx"),
    [
        ("gcc", ["g++"]),
        ("ccache gcc-12", ["ccache", "g++-12"]),
        ("/opt/bin/clang-18", ["/opt/bin/clang++-18"]),
        ("aarch64-linux-gnu-gcc", ["aarch64-linux-gnu-g++"]),
        ("cc", ["c++"]),
    ],
)
def test_the_cxx_compiler_follows_from_cc(cc, cxx):
    assert build.Toolchain._cxx_beside(cc) == cxx


def test_an_unknown_cc_asks_for_cxx():
    with pytest.raises(build.BuildError, match=r"CC is 'tcc'.*set CXX"):
        build.Toolchain._cxx_beside("tcc")


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("CC", "no-such-gcc")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(build.BuildError, match=r"no-such-g[+][+]"):
        build.Toolchain()


@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-g++"), reason="no cross compiler for aarch64")
def test_the_target_is_the_compilers_not_this_machine(monkeypatch, project):
    monkeypatch.setenv("CC", "aarch64-linux-gnu-gcc")
    monkeypatch.delenv("CXX", raising=False)
    assert build.Toolchain().machine == "aarch64"
    command = command_for(build.Native("infinicore.x", []))
    command.build_extensions()
    if platform.machine() == "x86_64":
        assert "aarch64" in command.get_ext_filename("infinicore.x")


def test_dependency_files_are_read_as_compilers_write_them(tmp_path):
    depfile = tmp_path / "a.d"
    depfile.write_text("build/a.o: src/a.cpp \\\n  src/with\\ space.h \\\n src/b.h\n")
    assert build.prerequisites(depfile) == [Path("src/a.cpp"), Path("src/with space.h"), Path("src/b.h")]
    assert build.prerequisites(tmp_path / "missing.d") is None


@pytest.mark.parametrize("version", ["0.1.0", "0.1.7", "0.1.0rc1"])
def test_a_plugin_accepts_every_core_that_agrees_in_two_numbers(version):
    assert build.requirement(version) == "infinicore-core ~= 0.1.0"


def test_a_plugin_gets_entry_point_requirement_and_tag(tmp_path):
    """What setup_backend() tells setuptools, as the metadata command sees it."""
    (tmp_path / "src" / "infinicore_acme").mkdir(parents=True)
    (tmp_path / "src" / "infinicore_acme" / "__init__.py").write_text("")
    (tmp_path / "VERSION").write_text("2.3.4\n")
    (tmp_path / "setup.py").write_text(
        "from infinicore.build import setup_backend\n"
        "setup_backend('acme', vendor='Acme', sources=['backend.cpp'])\n"
    )
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "infinicore-acme"\ndynamic = ["version", "dependencies", "entry-points"]\n'
    )
    (tmp_path / "backend.cpp").write_text("")
    subprocess.run([sys.executable, "setup.py", "--quiet", "egg_info"], cwd=tmp_path, check=True)
    info = tmp_path / "src" / "infinicore_acme.egg-info"
    assert (info / "entry_points.txt").read_text().split() == [
        "[infinicore.backends]", "acme", "=", "infinicore_acme:plugin",
    ]  # fmt: skip
    assert (info / "requires.txt").read_text().strip() == "infinicore-core~=2.3.0"
    assert "\nVersion: 2.3.4\n" in (info / "PKG-INFO").read_text()


def test_a_missing_build_requirement_says_what_to_install():
    with pytest.raises(build.BuildError, match=r"pip install no-such-thing"):
        build.distributed_file("no-such-thing", r"\.so$")
