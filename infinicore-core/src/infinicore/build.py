# How native code of infinicore is built: core's own extensions, and with setup_backend() a vendor's plug-in.
# Objects are compiled in parallel and only when something they read has changed; ccache is used when present.
"""Build helpers for plug-in authors (and for infinicore-core itself).

A vendor's whole ``setup.py``::

    from infinicore.build import setup_backend

    setup_backend("acme", vendor="Acme", sources=["src/infinicore_acme/backend.cpp"])

The compilers are those of the environment variables ``CC`` and ``CXX``, else Python's own; ``CPPFLAGS``,
``CFLAGS``, ``CXXFLAGS`` and ``LDFLAGS`` are honoured. ``INFINICORE_BUILD_ONLY`` (``_tensor,cpu``) restricts a
build to some extensions, ``INFINICORE_BUILD_ISA`` (``generic``) the CPU's kernels to some instruction sets.
``INFINICORE_BUILD_JOBS`` sets how many compilers run at once, and ``INFINICORE_ONEDNN=0`` leaves oneDNN out
of the CPU backend.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

__all__ = ["Native", "Unit", "cudalike_sources", "requirement", "setup_backend"]

HERE = Path(__file__).resolve().parent
INCLUDE = HERE / "include"

# Instruction sets of the CPU kernels, weakest first. Link order matters: where two objects hold the same
# inline function of the standard library the linker keeps the first, which every machine can run.
INSTRUCTION_SETS: dict[str, dict[str, list[str]]] = {
    "x86_64": {
        "generic": ["-march=x86-64-v2"],
        "x86_64_v3": ["-march=x86-64-v3"],
        "x86_64_v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    },
    "aarch64": {"generic": []},
}
KERNEL_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math"]
COMMON_FLAGS = ["-fPIC", "-g0", "-pthread", "-DNDEBUG"]
CXX_FLAGS = ["-std=c++17", "-fvisibility=hidden", "-fvisibility-inlines-hidden"]
# Py_LIMITED_API of a vendor wheel: one file for Python 3.10 and every later one.
LIMITED_API = 0x030A0000


class BuildError(RuntimeError):
    """A compiler failed, or something that the build needs is not there."""


# ---- compilers ---------------------------------------------------------------------------------------------


class Toolchain:
    """The compilers that the environment asks for, and the machine that they compile for."""

    def __init__(self):
        environment = os.environ.get
        self.cc = shlex.split(environment("CC") or sysconfig.get_config_var("CC") or "cc")[:]
        self.cxx = shlex.split(environment("CXX") or "") or self._cxx_beside(environment("CC"))
        flags = shlex.split(environment("CPPFLAGS", ""))
        self.c_flags = shlex.split(environment("CFLAGS", "")) + flags
        self.cxx_flags = shlex.split(environment("CXXFLAGS", "")) + flags
        self.link_flags = shlex.split(environment("LDFLAGS", ""))
        self.machine = self._machine()

    @staticmethod
    def _cxx_beside(cc):
        """The C++ compiler that comes with the C compiler of CC, else Python's own."""
        if not cc:
            return shlex.split(sysconfig.get_config_var("CXX") or "c++")
        *launcher, compiler = shlex.split(cc)
        folder, name = os.path.split(compiler)
        if match := re.fullmatch(r"(.*-)?(clang|gcc|cc)(-[\d.]+)?", name):
            prefix, c, version = match.groups(default="")
            cxx = {"clang": "clang++", "gcc": "g++", "cc": "c++"}[c]
            return [*launcher, os.path.join(folder, prefix + cxx + version)]
        raise BuildError(f"CC is {cc!r}, of which no C++ compiler follows: set CXX as well")

    def _machine(self):
        """What ``uname -m`` says on the target: the first part of the compiler's triplet."""
        command = [*self.cxx, "-dumpmachine"]
        try:
            triplet = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise BuildError(f"no C++ compiler: {shlex.join(command)} failed: {error}") from None
        return triplet.split("-")[0].strip()

    def compile(self, unit, source, target, depfile, include_dirs, device_compiler=None):
        """The command that compiles `source` of `unit` into the object `target`."""
        if device_compiler is not None and source.suffix in device_compiler.suffixes:
            host_flags = [*COMMON_FLAGS, *CXX_FLAGS[1:], *self.cxx_flags]
            return device_compiler.compile(
                self.cxx, unit.flags, host_flags, source, target, depfile, include_dirs
            )
        is_c = source.suffix == ".c"
        compiler = self.cc if is_c else self.cxx
        if shutil.which("ccache") and not os.path.basename(compiler[0]).startswith("ccache"):
            compiler = ["ccache", *compiler]
        return [
            *compiler,
            *COMMON_FLAGS,
            *(["-O2"] if is_c else CXX_FLAGS),
            *unit.flags,
            *(f"-I{directory}" for directory in include_dirs),
            *(self.c_flags if is_c else self.cxx_flags),
            *("-MMD", "-MF", str(depfile), "-c", str(source), "-o", str(target)),
        ]

    def link(self, objects, target, libraries, flags, is_cxx):
        """The command that links `objects` into the shared library `target`."""
        return [
            *(self.cxx if is_cxx else self.cc),
            *("-shared", "-pthread", "-Wl,--strip-debug", "-o", str(target), *map(str, objects)),
            *self.link_flags,
            *flags,
            *(f"-l{library}" for library in libraries),
        ]


# ---- what to build -----------------------------------------------------------------------------------------


class Unit:
    """One source file and how to compile it.

    Parameters
    ----------
    source : path
        C, C++ or Cython; relative to the folder of ``setup.py``, as setuptools wants it.
    flags : sequence of str
        Compiler flags besides the common ones.
    tag : str
        Told apart by this, one source may be compiled several times.
    """

    def __init__(self, source, flags=(), tag=""):
        self.source = Path(source)
        self.flags = [*flags]
        self.tag = tag


class Native(Extension):
    """An extension module made of units.

    Parameters
    ----------
    name : str
        Full module name.
    units : sequence of Unit
        What is linked, in this order.
    include_dirs, libraries, link_flags, limited
        Header folders, ``-l`` libraries, linker flags, whether it keeps to the limited API.
    library_target : str, optional
        For a plain shared library: its path in the wheel. `name` is then only a name.
    beside : Native, optional
        A plain shared library in the same folder that this one is linked with.
    short_name : str, optional
        What ``INFINICORE_BUILD_ONLY`` calls it: ``_tensor``, ``cpu``; by default the end of its name.
    device_compiler : infinicore.toolkit.Nvcc, optional
        What compiles the units with one of its `suffixes`.
    """

    def __init__(
        self,
        name,
        units,
        *,
        include_dirs=(),
        libraries=(),
        link_flags=(),
        limited=False,
        library_target=None,
        beside=None,
        short_name=None,
        device_compiler=None,
    ):
        super().__init__(name, [], py_limited_api=limited)
        # Not handed to Extension, which would replace .pyx where Cython is not installed.
        self.sources = sorted({str(unit.source) for unit in units})
        self.units = [*units]
        self.include_dirs = [*map(str, include_dirs)]
        self.libraries = [*libraries]
        self.link_flags = [*link_flags]
        self.library_target = library_target
        self.beside = beside
        *parents, last = name.split(".")
        self.short_name = short_name or (parents[-1] if last == "_backend" and parents[1:] else last)
        self.device_compiler = device_compiler
        self.bundled = []  # (file to copy, path in the wheel)
        self.resolve = self._resolve_device  # called before a build: look up what only a build needs

    def _resolve_device(self):
        if self.device_compiler is None:
            return
        try:
            self.device_compiler.resolve()
        except OSError as error:
            raise BuildError(f"{self.name}: {error}") from None
        self.include_dirs += self.device_compiler.include_dirs
        self.link_flags += self.device_compiler.link_flags


# ---- the commands ------------------------------------------------------------------------------------------


class BuildNative(build_ext):
    """``build_ext`` for `Native` extensions."""

    def finalize_options(self):
        """Keep the extensions that ``INFINICORE_BUILD_ONLY`` names."""
        super().finalize_options()
        only = [*filter(None, re.split(r"[,\s]+", os.environ.get("INFINICORE_BUILD_ONLY", "")))]
        if only and self.extensions:
            known = {extension.short_name for extension in self.extensions}
            if unknown := sorted(set(only) - known):
                raise BuildError(
                    f"INFINICORE_BUILD_ONLY names {', '.join(unknown)}; there are {', '.join(sorted(known))}"
                )
            self.extensions = [extension for extension in self.extensions if extension.short_name in only]

    def run(self):
        """Write the operator headers first: every kernel includes them."""
        write_operator_headers(self.distribution)
        super().run()

    def build_extensions(self):
        """Compile every object of every extension in one parallel batch, then link."""
        self.toolchain = Toolchain()
        for extension in self.extensions:
            extension.resolve()
        # Kept beside the sources, whatever the frontend's temporary folders, so that builds stay incremental.
        self.work = Path("build") / f"objects-{self.toolchain.machine}-{sysconfig.get_config_var('SOABI')}"
        translated = self._translate()
        jobs, linked = [], []
        for extension in self.extensions:
            objects = []
            for unit in extension.units:
                stem = re.sub(r"[^\w.]+", "_", str(unit.source)) + (f".{unit.tag}" if unit.tag else "")
                target = self.work / extension.name / f"{stem}.o"
                objects.append(target)
                source = translated.get((extension.name, unit.source), unit.source)
                jobs.append((extension, unit, source, target))
            linked.append((extension, objects))
        run_parallel(lambda job: self._compile(*job), jobs)
        self._exports()
        for alone in (True, False):  # what others are linked with comes first
            run_parallel(
                lambda item: self._link(*item), [x for x in linked if (x[0].beside is None) == alone]
            )

    def _translate(self):
        """Run Cython; map (extension, .pyx) to the C file."""
        wanted = [
            (extension, unit.source)
            for extension in self.extensions
            for unit in extension.units
            if unit.source.suffix == ".pyx"
        ]
        if not wanted:
            return {}
        from Cython.Build import cythonize

        modules = [Extension(extension.name, [str(source)]) for extension, source in wanted]
        done = cythonize(
            modules,
            build_dir="build/cython",
            include_path=[str(HERE.parent)],
            nthreads=min(job_count(), len(modules)) if len(modules) > 1 else 0,
            compiler_directives={
                "language_level": 3,
                "binding": True,
                "embedsignature": True,
                "freethreading_compatible": True,
                "annotation_typing": False,
            },
        )
        return {
            (extension.name, source): Path(module.sources[0])
            for (extension, source), module in zip(wanted, done, strict=True)
        }

    def _compile(self, extension, unit, source, target):
        # Relative where possible: a compiler cache then serves another copy of the tree, too.
        include = INCLUDE.relative_to(Path.cwd()) if INCLUDE.is_relative_to(Path.cwd()) else INCLUDE
        include_dirs = [*extension.include_dirs, include]
        if unit.source.suffix == ".pyx":
            include_dirs += [sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
        depfile = target.with_suffix(".d")
        folders = dict.fromkeys(map(str, include_dirs))
        command = self.toolchain.compile(unit, source, target, depfile, folders, extension.device_compiler)
        if extension.py_limited_api and unit.source.suffix == ".pyx":
            command.insert(-4, f"-DPy_LIMITED_API={LIMITED_API:#010x}")
        if self.force or stale(target, command, prerequisites(depfile)):
            target.parent.mkdir(parents=True, exist_ok=True)
            execute(command, target)
            if unit.tag and b".init_array" in target.read_bytes():
                Path(f"{target}.json").unlink()
                raise BuildError(
                    f"{unit.source} defines an object with dynamic initialisation: compiled for {unit.tag}, "
                    "it would run when the library is loaded, on machines without that instruction set, too"
                )

    def _link(self, extension, objects):
        if extension.library_target:
            target = Path(self.build_lib) / extension.library_target
        else:
            target = Path(self.get_ext_fullpath(extension.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        is_cxx = any(unit.source.suffix not in (".c", ".pyx") for unit in extension.units)
        inputs, flags = [*objects], [*extension.link_flags]
        if extension.library_target:
            flags += [f"-Wl,-soname,{target.name}", f"-Wl,--version-script={self._exports()}"]
        if extension.beside:
            inputs.append(Path(self.build_lib) / extension.beside.library_target)
            flags.append("-Wl,-rpath,$ORIGIN")
        command = self.toolchain.link(inputs, target, extension.libraries, flags, is_cxx)
        record = self.work / f"{extension.name}.link"
        if self.force or stale(target, command, inputs, record):
            execute(command, record)
        for source, place in extension.bundled:
            bundle(source, Path(self.build_lib) / place)

    def _exports(self):
        """A linker script that exports our C functions alone.

        Inline functions of the C++ library, which the compiler exports, may be compiled for a processor that
        others in the process do not count on.
        """
        script = self.work / "exports.map"
        text = "{ global: infini*; local: *; };\n"
        if not script.exists() or script.read_text() != text:
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text(text)
        return script

    def get_ext_filename(self, fullname):
        """The file of a module; the suffix follows the compiler's target where it is not this machine."""
        name = super().get_ext_filename(fullname)
        machine = getattr(self, "toolchain", None) and self.toolchain.machine
        return name.replace(f"-{platform.machine()}-", f"-{machine}-") if machine else name

    def copy_extensions_to_source(self):
        """Put modules, libraries and what comes with them beside the sources, for an editable install."""
        root = self._source_root() if self.extensions else None
        for extension in self.extensions:
            for place in self._products(extension):
                target = root / place
                target.parent.mkdir(parents=True, exist_ok=True)
                replace(Path(self.build_lib) / place, target)

    def get_outputs(self):
        """List the files that this command makes."""
        return [os.path.join(self.build_lib, place) for e in self.extensions for place in self._products(e)]

    def _source_root(self):
        """The folder that the source packages lie in."""
        build_py: Any = self.get_finalized_command("build_py")
        return Path(build_py.get_package_dir(""))

    def _products(self, extension):
        """The files of one extension, relative to the root of the packages."""
        module = extension.library_target or self.get_ext_filename(extension.name)
        return [module, *(place for _, place in extension.bundled)]

    def get_output_mapping(self):
        """Map built files to their place in the source tree, for editable installs."""
        if not self.inplace:
            return {}
        root = self._source_root()
        return {
            output: os.path.join(root, os.path.relpath(output, self.build_lib))
            for output in self.get_outputs()
        }


class BuildPython(build_py):
    """``build_py`` that finds the operator headers, which are package data, already written."""

    def run(self):
        """Write the operator headers, then copy."""
        write_operator_headers(self.distribution)
        super().run()


def write_operator_headers(distribution):
    """Write the generated headers where `distribution` is core itself; an installed core carries them."""
    if distribution.get_name() == "infinicore-core":
        import infinicore.ops
        from infinicore import schema

        assert infinicore.ops is not None  # importing it fills schema.OPERATORS
        schema.write_headers(INCLUDE)


# ---- incremental steps -------------------------------------------------------------------------------------


def job_count():
    """How many compilers run at once."""
    text = os.environ.get("INFINICORE_BUILD_JOBS", "")
    return int(text) if text else len(os.sched_getaffinity(0))


def run_parallel(function, items):
    """Call `function` on every item, `job_count` at a time; raise the first failure."""
    with ThreadPoolExecutor(job_count()) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            for future in futures:
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def prerequisites(depfile):
    """The files that a compiler's dependency file names; None when there is none."""
    try:
        text = depfile.read_text()
    except OSError:
        return None
    names = text.partition(":")[2].replace("\\\n", " ")
    return [Path(name.replace("\\ ", " ")) for name in re.split(r"(?<!\\)\s+", names.strip())]


def stale(target, command, inputs, record=None):
    """Whether `target` is missing, older than an input, or was made by another command."""
    record = Path(f"{record or target}.json")
    try:
        made = target.stat().st_mtime_ns
        if inputs is None or json.loads(record.read_text()) != command:
            return True
        return any(path.stat().st_mtime_ns > made for path in inputs)
    except (OSError, ValueError):
        return True


def execute(command, record):
    """Run `command`, remember it next to `record`, and show what it printed if it failed."""
    record = Path(f"{record}.json")
    record.unlink(missing_ok=True)
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.stdout:
        print(result.stdout, file=sys.stderr, end="")
    if result.returncode != 0:
        raise BuildError(f"exit status {result.returncode}: {shlex.join(command)}")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(command))


def replace(source, target):
    """Copy a file over another that a running process may have mapped: a new inode, put in place at once."""
    if target.exists() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns:
        return
    beside = target.with_name(target.name + ".new")
    shutil.copy2(source, beside)
    os.replace(beside, target)


def bundle(source, target):
    """Copy a file, a shared library without its symbol table, unless that was done already."""
    source = Path(source)
    if target.exists() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    if ".so" in source.suffixes and (strip := shutil.which("strip")):
        subprocess.run([strip, "--strip-unneeded", str(target)], check=True)


# ---- infinicore-core ---------------------------------------------------------------------------------------


def capsule(module):
    """Core's capsule.pyx, copied into the build folder, as the source of extension `module`."""
    copy = Path("build") / "capsule" / module / "_backend.pyx"
    text = (HERE / "capsule.pyx").read_text()
    if not copy.exists() or copy.read_text() != text:
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text)
    return copy


def core_extensions():
    """Everything native in infinicore-core; called from its ``setup.py``, in its folder."""
    package = HERE.relative_to(Path.cwd())
    modules = [
        Native(f"infinicore.{path.stem}", [Unit(path)], include_dirs=[package / "capi"])
        for path in sorted(package.glob("_*.pyx"))
        if path.stem != "__init__"
    ]
    try:
        machine = Toolchain().machine
    except BuildError:  # a source distribution needs no compiler, and a build will say that it is missing
        machine = platform.machine()
    return [
        *modules,
        *c_api_libraries(package),
        cpu_library(package, machine),
        *onednn_library(package, machine),
        *sim_extension(package),
    ]


def c_api_libraries(package):
    """libinfinirt.so with the registry of backends, and libinfiniop.so and libinfiniccl.so over it."""

    def library(name, sources, beside=None):
        return Native(
            f"infinicore.lib.{name}",
            [Unit(source, ["-O2"]) for source in sources],
            include_dirs=[package / "capi"],
            libraries=["dl"],
            link_flags=["-Wl,-z,defs"],
            library_target=f"infinicore/lib/lib{name}.so",
            beside=beside,
            short_name="capi",
        )

    folder = package / "capi"
    runtime = library("infinirt", [folder / name for name in ("registry.cpp", "graph.cpp", "runtime.cpp")])
    collectives = library("infiniccl", [folder / "collectives.cpp"], runtime)
    generated = Path("build") / "capi" / "functions.cpp"
    core = [folder / name for name in ("operator.cpp", "binding.cpp", "check.cpp")]
    operators = library("infiniop", [*core, generated], runtime)

    def resolve():
        from infinicore.capi.generate import write_functions

        write_functions(generated)

    operators.resolve = resolve
    return [runtime, collectives, operators]


def cpu_library(package, machine):
    """libinfinicore_cpu.so: each kernel file once per instruction set, everything else for the weakest."""
    sets = INSTRUCTION_SETS.get(machine)
    if sets is None:
        raise BuildError(f"the cpu backend is for {' and '.join(INSTRUCTION_SETS)}, not {machine}")
    baseline = [*sets["generic"], *KERNEL_FLAGS]
    sets = chosen_sets(sets)
    names = " ".join(f"X({name})" for name in sets)
    version = Path("VERSION").read_text().strip()
    units = []
    for path in sorted((package / "cpu").glob("*.cpp")):
        if not path.name.startswith("onednn"):
            units.append(
                Unit(path, [*baseline, f"-DINFINI_CPU_ISAS={names}", f'-DINFINI_VERSION="{version}"'])
            )
    kernels = sorted((package / "cpu" / "kernels").glob("*.cpp"))
    for name, flags in sets.items():
        units += [Unit(path, [*flags, *KERNEL_FLAGS, f"-DINFINI_ISA={name}"], tag=name) for path in kernels]
    return Native(
        "infinicore.cpu._backend",
        units,
        include_dirs=[package / "cpu"],
        libraries=["dl"],
        library_target="infinicore/lib/libinfinicore_cpu.so",
    )


def chosen_sets(sets):
    """The instruction sets that ``INFINICORE_BUILD_ISA`` names, or all."""
    names = [*filter(None, re.split(r"[,\s]+", os.environ.get("INFINICORE_BUILD_ISA", "")))]
    if unknown := sorted(set(names) - set(sets)):
        raise BuildError(f"INFINICORE_BUILD_ISA names {', '.join(unknown)}; there are {', '.join(sets)}")
    return {name: flags for name, flags in sets.items() if name in names or not names}


def onednn_library(package, machine):
    """Describe libinfinicore_onednn.so, opened at the first large operation, and the libdnnl beside it."""
    sources = sorted((package / "cpu").glob("onednn*.cpp"))
    if machine != "x86_64" or not sources or os.environ.get("INFINICORE_ONEDNN") == "0":
        return []
    native = Native(
        "infinicore.lib.onednn",
        [Unit(path, ["-O2"]) for path in sources],
        include_dirs=[package / "cpu"],
        libraries=["dl"],
        link_flags=["-Wl,-rpath,$ORIGIN", "-Wl,-z,defs"],
        library_target="infinicore/lib/libinfinicore_onednn.so",
    )

    def resolve():
        library = distributed_file("onednn-cpu-gomp", r"/libdnnl\.so\.\d+$")
        header = distributed_file("onednn-devel-cpu-gomp", r"/dnnl\.h$")
        native.include_dirs.append(str(header.parent))
        native.link_flags.append(str(library))
        native.bundled.append((library, f"infinicore/lib/{library.name}"))
        for text in ("LICENSE", "THIRD-PARTY-PROGRAMS"):  # its terms ask that they come along
            source = distributed_file("onednn-cpu-gomp", rf"/doc/onednn/{text}$")
            native.bundled.append((source, f"infinicore/lib/libdnnl.{text}"))

    native.resolve = resolve
    return [native]


def distributed_file(distribution, pattern):
    """The file of an installed build requirement whose path matches `pattern`."""
    from importlib.metadata import PackageNotFoundError, files

    try:
        found = [
            path.locate() for path in files(distribution) or () if re.search(pattern, f"/{path.as_posix()}")
        ]
    except PackageNotFoundError:
        found = []
    if not found:
        raise BuildError(
            f"{distribution} installed nothing like {pattern}; it speeds up large products on the CPU: "
            f"pip install {distribution}, or set INFINICORE_ONEDNN=0 to build without it"
        )
    return Path(found[0]).resolve()


def sim_extension(package):
    """The simulated vendor of infinicore.testing."""
    folder = package / "testing" / "sim"
    sources = sorted(folder.glob("*.cpp"))
    if not sources:
        return []
    units = [Unit(path, ["-O2"]) for path in sources]
    return plugin("sim", "infinicore.testing.sim", units, include_dirs=[folder])


# ---- plug-ins ----------------------------------------------------------------------------------------------


def plugin(name, package, units, *, limited=False, **keywords):
    """Describe a backend: a plain library that C programs open, and the module with its capsule beside it."""
    library = Native(
        f"{package}.library",
        units,
        library_target=f"{package.replace('.', '/')}/libinfinicore_{name}.so",
        short_name=package.rpartition(".")[2],
        **keywords,
    )
    return [library, Native(f"{package}._backend", [Unit(capsule(package))], limited=limited, beside=library)]


def requirement(version):
    """The requirement on core of a plug-in of `version`: any core that agrees in the first two numbers."""
    major, minor = re.findall(r"\d+", version)[:2]
    return f"infinicore-core ~= {major}.{minor}.0"


def cudalike_sources(suffix):
    """Write a source file per family of kernels in ``infinicore/cudalike`` into ``build/cudalike``.

    Parameters
    ----------
    suffix : str
        What the vendor's compiler expects: ``".cu"``.

    Returns
    -------
    list of Path
        For the `sources` of `setup_backend`, relative to the folder of ``setup.py``.
    """
    written = []
    for header in sorted((INCLUDE / "infinicore" / "cudalike").glob("*.hpp")):
        if "\nINFINI_CUDALIKE_KERNEL(" in header.read_text():
            source = Path("build") / "cudalike" / f"{header.stem}{suffix}"
            text = f"#include <infinicore/cudalike/{header.name}>\n"
            if not source.exists() or source.read_text() != text:
                source.parent.mkdir(parents=True, exist_ok=True)
                source.write_text(text)
            written.append(source)
    return written


def setup_backend(
    name,
    *,
    vendor,
    sources,
    package=None,
    include_dirs=(),
    define_macros=(),
    libraries=(),
    compile_flags=(),
    link_flags=(),
    device_compiler=None,
    version=None,
    **keywords,
):
    """Build the wheel of a plug-in: everything that is the same for all of them.

    `sources` become ``libinfinicore_<name>.so`` in the package, which C programs open, too; the extension
    ``<package>._backend`` beside it is core's ``capsule.pyx``, for the limited API of Python 3.10
    (free-threaded Pythons get a wheel of their own). The requirement on core and the entry point in
    ``infinicore.backends`` (``<package>:plugin``, a `infinicore.Plugin`) are added, and the package's
    ``known_failures.toml`` is packed where it is there. The plug-in's
    ``pyproject.toml`` lists ``dynamic = ["version", "dependencies", "entry-points"]``, and names
    ``infinicore-core``, ``setuptools`` and ``cython`` as build requirements.

    Parameters
    ----------
    name : str
        Device string.
    vendor : str
        Who makes the device. Sources see it as the macro ``INFINI_VENDOR``, `name` as ``INFINI_NAME`` and the
        version as ``INFINI_VERSION``: C strings for the backend's table.
    sources : sequence of path
        C++17 (or C11) files, and those of `device_compiler`, relative to ``setup.py``.
    package : str, optional
        Import package in ``src``; ``infinicore_<name>`` by default.
    include_dirs, define_macros, libraries, compile_flags, link_flags : sequence, optional
        For the compiler; macros are names or ``(name, value)`` pairs. Core's headers are always found.
    device_compiler : infinicore.toolkit.Nvcc, optional
        Compiles device code; its headers and libraries are found for every source.
    version : str, optional
        The plug-in's version; by default the content of the file ``VERSION``.
    **keywords
        Passed on to `setuptools.setup`.
    """
    package = package or f"infinicore_{name}"
    version = version or Path("VERSION").read_text().strip()
    texts = {"INFINI_NAME": name, "INFINI_VENDOR": vendor, "INFINI_VERSION": version}
    flags = ["-O2", *(f'-D{macro}="{text}"' for macro, text in texts.items())]
    for macro in define_macros:
        flags.append(f"-D{macro}" if isinstance(macro, str) else "-D{}={}".format(*macro))
    flags += compile_flags
    limited = not sysconfig.get_config_var("Py_GIL_DISABLED")
    extensions = plugin(
        name,
        package,
        [Unit(source, flags) for source in sources],
        include_dirs=include_dirs,
        libraries=libraries,
        link_flags=link_flags,
        limited=limited,
        device_compiler=device_compiler,
    )
    entry_points = {group: [*entries] for group, entries in keywords.pop("entry_points", {}).items()}
    entry_points.setdefault("infinicore.backends", []).append(f"{name} = {package}:plugin")
    options = dict(keywords.pop("options", {}))
    if limited:
        options.setdefault("bdist_wheel", {}).setdefault("py_limited_api", "cp310")
    setup(
        version=version,
        package_dir=keywords.pop("package_dir", {"": "src"}),
        packages=keywords.pop("packages", [package]),
        package_data={package: ["known_failures.toml"], **keywords.pop("package_data", {})},
        ext_modules=[*extensions, *keywords.pop("ext_modules", [])],
        install_requires=[requirement(version), *keywords.pop("install_requires", [])],
        entry_points=entry_points,
        options=options,
        cmdclass={"build_ext": BuildNative, "build_py": BuildPython, **keywords.pop("cmdclass", {})},
        **keywords,
    )
