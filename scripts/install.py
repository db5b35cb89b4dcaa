# Installs infinicore-core of this tree with pip and makes INFINI_ROOT (~/.infini by default) lead to it: lib/
# with the C libraries, include/ with their headers, bin/ with the commands. C programs look there.
"""Build, install, and fill INFINI_ROOT."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

CORE = Path(__file__).resolve().parents[1] / "infinicore-core"
COMMANDS = ("infiniop-test", "infinicore-test")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("INFINI_ROOT") or "~/.infini"
    parser.add_argument("--root", default=default, help="where to (%(default)s)")
    parser.add_argument("--no-build", action="store_true", help="use the infinicore-core that is installed")
    parser.add_argument(
        "--copy",
        action="store_true",
        help="copy the files instead of linking them: they outlive the Python environment, but backends "
        "that other wheels bring are found by INFINICORE_BACKEND_PATH only",
    )
    options, others = parser.parse_known_args(arguments)
    for flag in others:  # build options of other builds of these libraries, such as --omp=y or --nv-gpu=y
        print(f"{flag} is not needed here: a backend is found when a program runs")
    if not options.no_build:
        subprocess.run([sys.executable, "-m", "pip", "install", str(CORE)], check=True)

    package = installed()
    root = Path(options.root).expanduser().resolve()
    libraries = sorted((package / "lib").glob("*.so*"))
    if not any(path.name == "libinfiniop.so" for path in libraries):
        parser.error(f"{package / 'lib'} has no libinfiniop.so: run without --no-build")
    for path in libraries:
        place(path, root / "lib" / path.name, options.copy)
    for path in sorted((package / "include").iterdir()):
        place(path, root / "include" / path.name, options.copy)
    for name in COMMANDS:
        command = Path(sysconfig.get_path("scripts")) / name
        if command.exists():
            place(command, root / "bin" / name, options.copy)
    print(f"Installed into {root}. For programs that use the C API:")
    print(f"  export INFINI_ROOT={root}")
    print("  export LD_LIBRARY_PATH=$INFINI_ROOT/lib:$LD_LIBRARY_PATH")
    return 0


def installed() -> Path:
    """Find the folder of the installed package, as another Python process sees it."""
    code = "import infinicore, os; print(os.path.dirname(infinicore.__file__))"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.strip())


def place(source: Path, target: Path, copy: bool) -> None:
    """Link or copy a file or folder to `target`, in the place of what was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.is_dir():
        shutil.rmtree(target)
    if not copy:
        target.symlink_to(source)
    elif source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


if __name__ == "__main__":
    raise SystemExit(main())
