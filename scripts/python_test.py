# Runs the scripts that test operators of the C API, with these flags: `python scripts/python_test.py --cpu`.
# Needs libinfiniop (pip install infinicore-core) and PyTorch.
"""Run the operator scripts; the exit status is the number of those that failed."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "libinfiniop" / "scripts"
GREEN, RED, PLAIN = ("\033[92m", "\033[91m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description="Run the operator scripts of a folder. Flags that are not listed here go to each script: "
        "--cpu, --nvidia, ..., --debug, --profile.",
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the scripts are (%(default)s)")
    parser.add_argument("--only", action="append", metavar="NAME", help="run this script; may be repeated")
    options, flags = parser.parse_known_args(arguments)
    scripts = sorted(path for path in options.folder.glob("*.py") if not path.name.startswith("_"))
    if options.only:
        unknown = set(options.only) - {path.stem for path in scripts}
        if unknown:
            parser.error(f"{options.folder} has no script {', '.join(sorted(unknown))}")
        scripts = [path for path in scripts if path.stem in options.only]
    if not scripts:
        parser.error(f"{options.folder} has no scripts")

    failed = []
    for path in scripts:
        print(f"== {path.name} {' '.join(flags)}", flush=True)
        if subprocess.run([sys.executable, str(path), *flags], check=False).returncode:
            failed.append(path.name)
    print(f"{GREEN}{len(scripts) - len(failed)} passed{PLAIN}: of {len(scripts)} scripts")
    if failed:
        print(f"{RED}{len(failed)} failed{PLAIN}: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    raise SystemExit(min(main(), 255))  # what a shell can see
