# Measures which lines of infinicore/cudalike the tests of the doubles run: the host executor's backends and
# the CUDA double are built once more for gcov, and tested.
"""Line coverage of the kernels that vendors share: ``python coverage.py FOLDER [--least PERCENT]``."""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: Not optimised, so that a line is what it is; the check of accesses would only be counted along.
FLAGS = "--coverage -O0 -fno-sanitize=thread"
Lines = dict[str, dict[int, bool]]  # file -> line -> was it run?


def lines_of(thing: Path, folder: Path) -> Lines:
    """Ask gcov which lines of files in `folder` an object has, and which of them were run."""
    found: Lines = defaultdict(dict)
    gcov = [os.environ.get("GCOV", "gcov"), "--json-format", "--stdout", str(thing)]
    report = json.loads(subprocess.run(gcov, capture_output=True, check=True).stdout)
    for file in report["files"]:
        path = Path(report["current_working_directory"], file["file"]).resolve()
        if path.parent == folder:
            for line in file["lines"]:
                number = line["line_number"]
                found[path.name][number] = found[path.name].get(number, False) or line["count"] > 0
    return found


def union(parts: list[Lines]) -> Lines:
    """Merge what objects say: a line was run where any of them ran it."""
    found: Lines = defaultdict(dict)
    for part in parts:
        for name, lines in part.items():
            for number, ran in lines.items():
                found[name][number] = found[name].get(number, False) or ran
    return found


def ranges(numbers: list[int]) -> str:
    """Write numbers shorter: 3-5 8."""
    text: list[list[int]] = []
    for number in numbers:
        if text and number == text[-1][1] + 1:
            text[-1][1] = number
        else:
            text.append([number, number])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in text)


def build_and_test(simt: dict[str, Any], folder: Path, arguments: list[str]) -> None:
    """Build both doubles for gcov into a folder, forget earlier runs, and run their tests."""
    os.environ["CXXFLAGS"] = FLAGS
    simt["build"](folder / "simt")
    runpy.run_path(str(HERE / "cuda" / "build.py"))["build"](folder / "cuda")
    for counts in folder.rglob("*.gcda"):
        counts.unlink()
    environment = {
        "INFINICORE_TEST_BACKEND": "cuda",
        "INFINICORE_TEST_TIER": "double",
        "INFINICORE_TEST_SIMT": str(folder / "simt"),
        "INFINICORE_DOUBLE": str(folder / "cuda"),
        "INFINICORE_BACKEND_PATH": str(folder / "cuda"),
        "LD_LIBRARY_PATH": str(folder / "cuda"),
        "HYPOTHESIS_PROFILE": os.environ.get("HYPOTHESIS_PROFILE", "ci"),
    }
    tests = [str(HERE / "cuda"), str(HERE / "simt" / "test_kernels.py")]
    command = [sys.executable, "-m", "pytest", "-q", *(arguments or tests)]
    subprocess.run(command, env={**os.environ, **environment}, check=True)


def main() -> int:
    """Measure, print a table, and return 1 where a width of warps is below what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--least", type=float, default=95.0, help="of the lines, in percent (default 95)")
    parser.add_argument("--report-only", action="store_true", help="of the last run")
    parser.add_argument("tests", nargs="*", help="instead of all tests of the doubles")
    options = parser.parse_args()
    folder = options.folder.resolve()
    simt = runpy.run_path(str(HERE / "simt" / "build.py"))
    if not options.report_only:
        build_and_test(simt, folder, options.tests)

    objects = sorted((folder / "simt" / "objects").glob("*.gcda"))
    host = [lines_of(path, simt["CUDALIKE"]) for path in sorted((folder / "cuda" / "objects").glob("*.gcda"))]
    by_name = {path.name: lines_of(path, simt["CUDALIKE"]) for path in objects}
    families, width_of = simt["families"](), simt["depends_on_width"]
    widths = simt["WIDTHS"]
    measured = {}
    for width in widths:
        names = [f"{h.stem}.{width if width_of(h) else widths[0]}.gcda" for h in families]
        names.append(f"backend.{width}.gcda")
        measured[width] = union([*host, *(by_name.get(name, {}) for name in names)])

    print(f"{'lines run, of lines':24}" + "".join(f"{f'warps of {width}':>22}" for width in widths))
    for name in [*sorted(measured[widths[0]]), "all"]:
        row = f"{name:24}"
        for width in widths:
            files = measured[width].values() if name == "all" else [measured[width][name]]
            ran, all_lines = sum(sum(f.values()) for f in files), sum(len(f) for f in files)
            row += f"{ran:8} of {all_lines:5}{100 * ran / all_lines:5.0f} %"
        print(row)
    failed = False
    for width in widths:
        missed = {name: [n for n, ran in sorted(f.items()) if not ran] for name, f in measured[width].items()}
        for name, numbers in missed.items():
            if numbers:
                print(f"not run with warps of {width}: {name} {ranges(numbers)}")
        total = sum(len(f) for f in measured[width].values())
        percent = 100 * (1 - sum(map(len, missed.values())) / total)
        print(f"warps of {width}: {percent:.1f} % of {total} lines")
        failed = failed or percent < options.least
    return int(failed)


if __name__ == "__main__":
    if shutil.which(os.environ.get("GCOV", "gcov")) is None:
        sys.exit("gcov, which comes with GCC, is not installed (GCOV names another one)")
    sys.exit(main())
