# `python -m infinicore`: which backends are there, in what state, and why; or where the C API lies.
"""Print the state of every backend, or the prefix of the C API."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence

from infinicore.report import render, report

FOLDERS = {"root": "", "cmake": "lib/cmake/infinicore", "pkg-config": "lib/pkgconfig"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 whatever state the backends are in.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words of the command line; those of the process by default.
    """
    parser = argparse.ArgumentParser(
        prog="python -m infinicore",
        description="Open every backend, and print its state and the reason for it.",
    )
    parser.add_argument("--json", action="store_true", help="print a stable structure for programs")
    parser.add_argument(
        "what",
        nargs="?",
        choices=["root", "cmake", "pkg-config"],
        help="print a folder instead: the prefix with lib/ and include/ (INFINI_ROOT), "
        "that of the CMake package (infinicore_DIR), or that of the pkg-config file (PKG_CONFIG_PATH)",
    )
    options = parser.parse_args(arguments)
    if options.what:
        print(os.path.join(os.path.dirname(os.path.abspath(__file__)), FOLDERS[options.what]).rstrip(os.sep))
        return 0
    data = report()
    print(json.dumps(data, indent=2) if options.json else render(data))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
