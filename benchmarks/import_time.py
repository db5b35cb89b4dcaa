# What `import infinicore` costs over a bare interpreter, beside the same for NumPy and PyTorch, in one run.
# The three take turns, so that a machine that is busy for a while is busy for all of them.
"""Import time."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import time

ROUNDS = 15


def start(code: str) -> float:
    """Return the seconds that a fresh interpreter takes for a line of code."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def main() -> None:
    modules = [name for name in ("infinicore", "numpy", "torch") if importlib.util.find_spec(name)]
    programs = {"bare": "pass", **{name: f"import {name}" for name in modules}}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for code in programs.values():
        start(code)  # fills the page cache
    for _ in range(ROUNDS):
        for name, code in programs.items():
            seconds[name].append(start(code))
    bare = statistics.median(seconds["bare"])
    ours = statistics.median(seconds["infinicore"]) - bare
    print(f"bare interpreter        {bare * 1e3:7.1f} ms")
    for name in modules:
        over = statistics.median(seconds[name]) - bare
        ratio = "" if name == "infinicore" else f"   infinicore / {name} = {ours / over:.2f}"
        print(f"import {name:<12} + {over * 1e3:7.1f} ms{ratio}")


if __name__ == "__main__":
    main()
