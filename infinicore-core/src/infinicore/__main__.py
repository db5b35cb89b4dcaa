# `python -m infinicore`: which backends are there, in what state, and why.
"""Print the state of every backend."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from infinicore.report import render, report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 whatever state the backends are in."""
    parser = argparse.ArgumentParser(
        prog="python -m infinicore",
        description="Open every backend, and print its state and the reason for it.",
    )
    parser.add_argument("--json", action="store_true", help="print a stable structure for programs")
    options = parser.parse_args(arguments)
    data = report()
    print(json.dumps(data, indent=2) if options.json else render(data))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
