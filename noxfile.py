"""What can be done with the tree: build it, show it, test it, check it. `nox --list` says each in a line.

A wheel is built once: dist/ keeps a stamp of its sources next to it, and sessions that need wheels take those
whose stamp still holds.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["demo", "tests"]
nox.options.error_on_missing_interpreters = True

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
# Read from the tree, typed nowhere: a vendor exists when its folder does.
VENDORS = sorted(
    folder.name.removeprefix("infinicore-")
    for folder in ROOT.glob("infinicore-*/")
    if folder.name != "infinicore-core" and (folder / "pyproject.toml").is_file()
)
TEST_GROUPS = ("test", "torch") if os.environ.get("INFINICORE_TEST_TORCH", "1") != "0" else ("test",)
by_vendor = nox.parametrize("vendor", [nox.param(vendor, id=vendor) for vendor in VENDORS])


# ---- helpers -------------------------------------------------------------------------------------


def group(*names: str) -> list[str]:
    """List the requirements of these dependency groups of pyproject.toml."""
    return list(nox.project.dependency_groups(PROJECT, *names))


def folder_of(distribution: str) -> Path:
    return ROOT if distribution == "infinicore" else ROOT / distribution


def fingerprint(distribution: str) -> str | None:
    """Hash every file that git tracks or would track under a distribution; None outside a git checkout."""
    paths = ["VERSION", "pyproject.toml", "setup.py", "README.md", "LICENSE"]
    if distribution != "infinicore":
        paths += [distribution, *(["infinicore-core"] if distribution != "infinicore-core" else [])]
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    if listing.returncode:
        return None
    chosen = os.environ.get("INFINICORE_CUDA_ARCHS", "") if distribution == "infinicore-cuda" else ""
    digest = hashlib.sha256(f"{sys.version} {os.uname().machine} {chosen}".encode())
    for name in sorted(filter(None, listing.stdout.split(b"\0"))):
        path = ROOT / os.fsdecode(name)
        if path.is_file():
            digest.update(name + b"\0" + path.read_bytes())
    return digest.hexdigest()


def compiler_cache() -> dict[str, str]:
    """Let ccache, which the build uses where it is installed, hit from another checkout folder too."""
    return {"CCACHE_BASEDIR": str(ROOT), "CCACHE_NOHASHDIR": "1"}


def build_requirements(distribution: str) -> list[str]:
    pyproject = nox.project.load_toml(folder_of(distribution) / "pyproject.toml")
    requires: list[str] = pyproject["build-system"]["requires"]
    return [name for name in requires if not name.startswith("infinicore-core")]


def build(session: nox.Session, *distributions: str) -> list[Path]:
    """Return the wheel of each distribution, built only where its sources changed since the last build."""
    wheels = []
    DIST.mkdir(exist_ok=True)
    for distribution in distributions:
        prefix = distribution.replace("-", "_")
        stamp, wanted = DIST / f".{prefix}.sha256", fingerprint(distribution)
        found = sorted(DIST.glob(f"{prefix}-[0-9]*.whl"))
        if not (wanted and len(found) == 1 and stamp.is_file() and stamp.read_text() == wanted):
            for old in found:
                old.unlink()
            # Without isolation header paths are the same every time, so that a compiler cache hits.
            session.install("pip", *build_requirements(distribution))
            session.run(
                "python", "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(DIST),
                str(folder_of(distribution)), env=compiler_cache(),
            )  # fmt: skip
            found = sorted(DIST.glob(f"{prefix}-[0-9]*.whl"))
            if wanted:
                stamp.write_text(wanted)
        wheels += found
    return wheels


def built(*distributions: str) -> list[str]:
    """Find what the session `wheels` left in dist/."""
    found = []
    for distribution in distributions:
        found += [str(path) for path in DIST.glob(f"{distribution.replace('-', '_')}-[0-9]*.whl")]
    return found


def install_built(session: nox.Session, *distributions: str, groups: tuple[str, ...] = ()) -> None:
    """Install wheels of this tree afresh (their version may not have changed) beside dependency groups."""
    wheels = built(*distributions)
    session.install(*wheels, *group(*groups))
    session.install("--force-reinstall", "--no-deps", *wheels)


# ---- the two commands of README ------------------------------------------------------------------


@nox.session(requires=["wheels"], tags=["ci"])
def demo(session: nox.Session) -> None:
    """Install the wheels afresh, list the backends, and let a trained Llama write Python."""
    install_built(session, "infinicore-core", "infinicore", groups=("demo",))
    session.run("python", "-m", "infinicore")
    session.run("python", "examples/generate.py", *session.posargs)


@nox.session(requires=["wheels"], tags=["ci"])
def tests(session: nox.Session) -> None:
    """Run the whole suite on the installed wheels (arguments after -- go to pytest)."""
    install_built(session, "infinicore-core", "infinicore", groups=TEST_GROUPS)
    session.run("python", "-m", "pytest", *session.posargs, env={"INFINICORE_TEST_WHEELS": str(DIST)})


# ---- developing ----------------------------------------------------------------------------------


@nox.session(venv_backend="none")
def dev(session: nox.Session) -> None:
    """Install the whole tree, editable, into the environment nox runs in; with every tool."""
    distributions = ["infinicore-core", *(f"infinicore-{vendor}" for vendor in VENDORS)]
    requires = {name for distribution in distributions for name in build_requirements(distribution)}
    pip = (sys.executable, "-m", "pip", "install")
    session.run(*pip, *sorted(requires), *group(*TEST_GROUPS, "lint", "types"))
    # Device code for one architecture, and as PTX for all later ones: a release takes several times as long.
    environment = {"INFINICORE_CUDA_ARCHS": os.environ.get("INFINICORE_CUDA_ARCHS", "80"), **compiler_cache()}
    for distribution in [*distributions, "infinicore"]:
        editable = ("--no-build-isolation", "--no-deps", "-e", str(folder_of(distribution)))
        session.run(*pip, *editable, env=environment)


@nox.session(reuse_venv=True)
def wheels(session: nox.Session) -> None:
    """Build the wheels of the tree into dist/, each only when its sources changed."""
    for wheel in build(session, "infinicore-core", "infinicore"):
        session.log(f"{wheel.relative_to(ROOT)}  {wheel.stat().st_size / 1e6:.1f} MB")


if VENDORS:

    @nox.session(requires=["wheels"], reuse_venv=True)
    @by_vendor
    def wheel(session: nox.Session, vendor: str) -> None:
        """Build a vendor's wheel into dist/, with the compiler of its build requirements, and check it."""
        install_built(session, "infinicore-core", groups=("test", "inspect"))
        for wheel in build(session, f"infinicore-{vendor}"):
            session.log(f"{wheel.relative_to(ROOT)}  {wheel.stat().st_size / 1e6:.1f} MB")
        session.run("python", "-m", "pytest", "tests/packaging", "-k", vendor, *session.posargs,
                    env={"INFINICORE_TEST_WHEELS": str(DIST)})  # fmt: skip

    @nox.session(requires=["wheels"], tags=["ci"])
    @by_vendor
    def doubles(session: nox.Session, vendor: str) -> None:
        """Test a vendor's plug-in, built against a double of its SDK: no hardware, every call checked."""
        install_built(session, "infinicore-core", groups=(*TEST_GROUPS, "doubles"))
        tests, folder = ROOT / "tests" / "doubles" / vendor, ROOT / "build" / "doubles" / vendor
        simt, kernels = tests.parent / "simt", folder.parent / "simt"
        for script, target in ((simt, kernels), (tests, folder)):
            session.run("python", str(script / "build.py"), str(target), env=compiler_cache())
        environment = {
            "INFINICORE_TEST_BACKEND": vendor,
            "INFINICORE_TEST_TIER": "double",
            "INFINICORE_DOUBLE": str(folder),
            "INFINICORE_TEST_SIMT": str(kernels),
            "INFINICORE_BACKEND_PATH": str(folder),
            "LD_LIBRARY_PATH": str(folder),
            "HYPOTHESIS_PROFILE": os.environ.get("HYPOTHESIS_PROFILE", "ci"),
        }
        session.run("python", "-m", "pytest", str(tests), str(simt), *session.posargs, env=environment)

    @nox.session(requires=["wheels"])
    def coverage(session: nox.Session) -> None:
        """Measure which lines of the kernels that vendors share are tested; fails below 95 % of them."""
        install_built(session, "infinicore-core", groups=("test",))
        script, folder = ROOT / "tests" / "doubles" / "coverage.py", ROOT / "build" / "coverage"
        session.run("python", str(script), str(folder), *session.posargs, env=compiler_cache())

    @nox.session(requires=["wheels"])
    @by_vendor
    def hardware(session: nox.Session, vendor: str) -> None:
        """Run the same conformance suite on the vendor's real devices."""
        install_built(session, "infinicore-core", groups=("test",))
        build(session, f"infinicore-{vendor}")
        install_built(session, f"infinicore-{vendor}")
        session.run("python", "-m", "pytest", "tests/conformance", *session.posargs,
                    env={"INFINICORE_TEST_BACKEND": vendor, "INFINICORE_TEST_TIER": "hardware"})  # fmt: skip

    @nox.session(requires=["wheels"])
    @by_vendor
    def bench_gpu(session: nox.Session, vendor: str) -> None:
        """Measure a vendor's real devices against PyTorch and their limits (options after --)."""
        install_built(session, "infinicore-core", groups=("torch",))
        build(session, f"infinicore-{vendor}")
        install_built(session, f"infinicore-{vendor}")
        session.run("python", "benchmarks/gpu", "--device", vendor, *session.posargs)


# ---- checks --------------------------------------------------------------------------------------


def sources(*patterns: str) -> list[str]:
    """List the tracked and new files that match, so that no tool walks into build folders."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


@nox.session(reuse_venv=True, tags=["ci"])
def lint(session: nox.Session) -> None:
    """Check style: ruff, cython-lint, clang-format and spelling."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("cython-lint", *sources("*.pyx", "*.pxd"))
    session.run("clang-format", "--dry-run", "-Werror", *sources("*.h", "*.hpp", "*.c", "*.cpp", "*.cuh"))
    session.run("codespell", *sources("*.py", "*.pyx", "*.pxd", "*.md", "*.h", "*.hpp", "*.c", "*.cpp"))


@nox.session(reuse_venv=True)
def mutants(session: nox.Session) -> None:
    """Test the tests: break kernels and dispatch in known ways, and see that the suite notices each."""
    session.install(*group("test"), *build_requirements("infinicore-core"))
    session.run("python", "tests/mutants/run.py", *session.posargs)


@nox.session(requires=["wheels"], tags=["ci"])
def types(session: nox.Session) -> None:
    """Check types: mypy over the sources, stubtest of the compiled modules against their .pyi."""
    install_built(session, "infinicore-core", groups=("types",))
    session.run("mypy")
    allowlist = ROOT / "tests" / "packaging" / "stubtest.txt"
    session.run(
        "python", "-m", "mypy.stubtest", "infinicore", "--mypy-config-file", "pyproject.toml",
        "--allowlist", str(allowlist), "--ignore-unused-allowlist",
    )  # fmt: skip


@nox.session(requires=["wheels"], tags=["ci"])
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build, every warning an error."""
    install_built(session, "infinicore-core", groups=("docs",))
    (ROOT / "docs" / "_reports").mkdir(exist_ok=True)
    for backend in ("cpu", "sim"):  # the support table is what the kit finds now, not what somebody wrote
        session.run(
            "python", "-m", "infinicore.testing", "--backend", backend, "--test", "basic",
            "--iterations", "2", "--json", f"docs/_reports/{backend}.json",
        )  # fmt: skip
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-b", "html", "docs", "docs/_build")


@nox.session(requires=["wheels"])
def bench(session: nox.Session) -> None:
    """Measure: each benchmark prints ratios of one run (after --: which of them, options such as --quick)."""
    install_built(session, "infinicore-core", "infinicore", groups=("bench",))
    options = [word for word in session.posargs if word.startswith("-")]
    names = [word for word in session.posargs if word not in options]
    for name in names or sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py")):
        session.run("python", f"benchmarks/{name}.py", *options)


@nox.session(requires=["wheels"])
def thorough(session: nox.Session) -> None:
    """Run what CI has no time for: many more drawn calls, kernels for aarch64 under qemu-user."""
    install_built(session, "infinicore-core", "infinicore", groups=TEST_GROUPS)
    environment = {"INFINICORE_TEST_THOROUGH": "1", "HYPOTHESIS_PROFILE": "thorough"}
    session.run(
        "python", "-m", "pytest", *session.posargs, env={"INFINICORE_TEST_WHEELS": str(DIST), **environment}
    )  # fmt: skip
