# Breaks a copy of the tree in each known way (mutants.py), builds the one object that changed, and runs the
# tests that must notice. Ends with 1 where a mutant survives, or where a patch no longer fits or builds.
"""Run the seeded mutants: ``python tests/mutants/run.py [words of names ...]``."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "mutants"
SOURCE = Path("infinicore-core", "src", "infinicore")
TIMEOUT = 600
# One instruction set that every machine has, and nothing that a mutant does not touch.
SETTINGS = {
    "INFINICORE_BUILD_ISA": "generic",
    "INFINICORE_BUILD_JOBS": "1",
    "INFINICORE_CPU_ISA": "generic",
    "INFINICORE_ONEDNN": "0",
    "HYPOTHESIS_PROFILE": "ci",
    "CCACHE_NOHASHDIR": "1",
}


class Broken(Exception):
    """A mutant says nothing: it does not apply, does not build, or its tests did not run."""


def run(
    tree: Path, command: list[str], folder: str = ".", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a Python command in a tree, on that tree's own package."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "INFINICORE_TEST_WHEELS")}
    path = {"PYTHONPATH": str(tree / "infinicore-core" / "src"), "CCACHE_BASEDIR": str(tree)}
    return subprocess.run(
        [sys.executable, *command],
        cwd=tree / folder,
        env={**inherited, **path, **SETTINGS, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def build(tree: Path, extensions: str, **settings: str) -> None:
    """Build some extensions of a tree in place; only what changed is compiled."""
    command = ["setup.py", "-q", "build_ext", "--inplace"]
    done = run(tree, command, "infinicore-core", INFINICORE_BUILD_ONLY=extensions, **settings)
    if done.returncode:
        raise Broken(f"does not build:\n{done.stdout[-2000:]}")


def test(tree: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run tests until one fails."""
    return run(tree, ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests])


def sound_tree() -> Path:
    """Bring the copy of the tree up to date and build it; files that did not change keep their time."""
    tree = WORK / "sound"
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    names = {name for name in listing.split("\0") if name and (ROOT / name).exists()}
    for name in names:
        source, target = ROOT / name, tree / name
        if not target.is_symlink() and target.is_file() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copy(source, target, follow_symlinks=False)
    for path in (tree / "tests").rglob("*.py"):
        if str(path.relative_to(tree)) not in names:
            path.unlink()
    jobs = {"INFINICORE_BUILD_JOBS": str(len(os.sched_getaffinity(0)))}
    done = run(tree, ["setup.py", "-q", "build_ext", "--inplace"], "infinicore-core", **jobs)
    if done.returncode:
        raise Broken(f"the tree does not build:\n{done.stdout[-2000:]}")
    return tree


def judge(mutant: Mutant, sound: Path) -> str:
    """Break a copy of the tree, and say how the tests noticed."""
    tree = WORK / f"mutant-{MUTANTS.index(mutant)}"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(sound, tree, symlinks=True)
    try:
        path = tree / SOURCE / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            raise Broken(f"the patch applies {text.count(mutant.old)} times")
        path.write_text(text.replace(mutant.old, mutant.new))
        if mutant.extension is not None:
            build(tree, mutant.extension)
        try:
            done = test(tree, mutant.tests)
        except subprocess.TimeoutExpired:
            return "caught: the tests hang"
        if done.returncode == 1:
            failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
            return "caught by " + failed[0].split(" - ")[0].split("/")[-1] if failed else "caught"
        if done.returncode < 0 or done.returncode >= 128:
            return "caught: the process died"
        if done.returncode == 0:
            return "SURVIVED"
        raise Broken(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}")
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def main() -> int:
    """Run the mutants whose name has all the words that were given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="run only mutants whose name or file has one of these")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="mutants at a time")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.words or any(w in m.name + m.file for w in options.words)]
    if not chosen:
        parser.error(f"no mutant has one of {options.words}")
    started = time.monotonic()
    print("building the tree ...", flush=True)
    sound = sound_tree()
    tests = tuple(dict.fromkeys(name for mutant in chosen for name in mutant.tests))
    done = test(sound, tests)
    if done.returncode:
        print(f"the tests do not pass before anything is broken:\n{done.stdout[-4000:]}")
        return 1
    print(f"the tests pass as they should ({time.monotonic() - started:.0f} s)", flush=True)

    def verdict(mutant: Mutant) -> tuple[bool, str]:
        try:
            text = judge(mutant, sound)
        except (Broken, OSError, subprocess.TimeoutExpired) as error:
            text = f"BROKEN: {error}"
        print(f"{mutant.file}: {mutant.name}\n    {text}", flush=True)
        return text.startswith("caught"), mutant.name

    with ThreadPoolExecutor(options.jobs) as pool:
        verdicts = list(pool.map(verdict, chosen))
    missed = [name for caught, name in verdicts if not caught]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} caught in {time.monotonic() - started:.0f} s")
    for name in missed:
        print(f"  not caught: {name}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
