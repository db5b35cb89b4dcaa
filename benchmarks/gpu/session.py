# What to run on a machine with a device, once: build the wheels, certify the backend, look for races and
# wrong addresses, measure. Each step has ten minutes at most and a log of its own; nothing is fetched.
"""Run a session on a GPU machine: ``python benchmarks/gpu/session.py [STEP ...]``.

It installs into the folder of the logs, not into the environment, with the compilers and the packages that
the machine has: Cython, setuptools, NumPy, ml_dtypes, hypothesis; PyTorch for the columns that compare with
it.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What tells most comes first: a visit may be cut short.
STEPS = ("build", "quick", "bench", "hopper", "suite", "memcheck", "racecheck")
#: Seconds for a step that could eat the others' time: kernels that never ran before, slow tools.
LIMITS = {"hopper": 240.0, "memcheck": 240.0, "racecheck": 240.0}
# One operator of each kind of kernel: the tools make a launch a hundred times slower.
CHECKED = ["add", "rms_norm", "softmax", "sum", "sort", "topk", "linear", "paged_attention",
           "scaled_dot_product_attention", "paged_caching", "random_sample"]  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(STEPS)}; all without one")
    parser.add_argument("--device", default="cuda", help="the backend, which is also the vendor's folder")
    parser.add_argument(
        "--logs", type=Path, default=ROOT / "build" / "gpu", help="folder of logs and results"
    )
    parser.add_argument("--site", type=Path, help="folder that packages are installed into (site, in --logs)")
    parser.add_argument("--archs", default="90a", help="what device code is compiled for (90a)")
    parser.add_argument(
        "--wheels", type=Path, help="folder of wheels that were built elsewhere, to install instead"
    )
    parser.add_argument("--limit", type=float, default=600, help="seconds that a step may take at most (600)")
    options = parser.parse_args()
    if unknown := set(options.steps) - set(STEPS):
        parser.error(f"no step {', '.join(sorted(unknown))}: there are {', '.join(STEPS)}")
    return options


class Session:
    """The steps of one visit."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.logs = options.logs.resolve()
        self.logs.mkdir(parents=True, exist_ok=True)
        self.site = (options.site or self.logs / "site").resolve()
        vendor = options.device.partition(":")[0]
        self.environment = {
            # The CPU is not what is measured: it is built quickly.
            "INFINICORE_ONEDNN": "0",
            "INFINICORE_BUILD_ISA": "generic",
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self.site), os.environ.get("PYTHONPATH")])),
            "PYTHONUNBUFFERED": "1",
            "INFINICORE_CUDA_ARCHS": options.archs,
            "INFINICORE_TEST_BACKEND": vendor,
            "INFINICORE_TEST_TIER": "hardware",
        }
        # A toolkit that is there serves where neither the variable nor a wheel names one.
        roots = [Path(nvcc).resolve().parents[1]] if (nvcc := shutil.which("nvcc")) else []
        for root in [*roots, Path("/usr/local/cuda")]:
            if (root / "include" / "cuda_runtime_api.h").is_file():
                self.environment.setdefault("CUDA_HOME", str(root))

    def commands(self, step: str) -> list[list[str]]:
        """List the commands of a step."""
        python, device = sys.executable, self.options.device
        kit = [python, "-m", "infinicore.testing", "--backend", device, "--tier", "hardware"]
        install = [python, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index"]
        install += ["--upgrade", "--target", str(self.site)]
        if step == "build":
            vendor = self.environment["INFINICORE_TEST_BACKEND"]
            sources = [self.source("infinicore-core"), self.source(f"infinicore-{vendor}")]
            return [*([*install, str(source)] for source in sources), [python, "-m", "infinicore"]]
        if step == "quick":
            return [[python, str(ROOT / "benchmarks" / "gpu"), "--device", device, "--smoke"]]
        if step == "suite":
            report = [f"--{kind}={self.logs / f'suite.{kind}'}" for kind in ("json", "html")]
            kinds = [f"--test={kind}" for kind in ("basic", "exception", "concurrency", "leak", "stress")]
            return [[*kit, *kinds, "--iterations", "3", *report]]
        if step in ("memcheck", "racecheck"):
            tool = shutil.which("compute-sanitizer") or "compute-sanitizer"
            small = [*kit, "--in-process", "--test", "basic", "--iterations", "1", "--operators", *CHECKED]
            return [[tool, "--tool", step, "--target-processes", "all", "--error-exitcode", "3", *small]]
        figures = ["--json", str(self.logs / f"{step}.json"), "--write", str(self.logs / "hardware.md")]
        if step == "hopper":
            figures += ["--only", "attention|prefill|graph", "--patience", "60"]
        return [[python, str(ROOT / "benchmarks" / "gpu"), "--device", device, *figures]]

    def source(self, distribution: str) -> Path:
        """Say what a distribution is installed from: a wheel that was brought along, else its folder."""
        pattern = f"{distribution.replace('-', '_')}-[0-9]*.whl"
        found = sorted(self.options.wheels.resolve().glob(pattern)) if self.options.wheels else []
        return found[-1] if found else ROOT / distribution

    def run(self, step: str) -> bool:
        """Run a step; its output goes to the terminal and to its log."""
        start = time.monotonic()
        with open(self.logs / f"{step}.log", "w") as log:
            for command in self.commands(step):
                left = min(self.options.limit, LIMITS.get(step, math.inf)) - (time.monotonic() - start)
                code = self.tee(
                    command, log, left, {"INFINICORE_CUDA_HOPPER": "1"} if step == "hopper" else {}
                )
                if code:
                    break
        print(f"==== {step}: {'ok' if code == 0 else f'ended with {code}'}, {time.monotonic() - start:.0f} s",
              flush=True)  # fmt: skip
        return code == 0

    def tee(self, command: list[str], log: object, limit: float, more: dict[str, str]) -> int:
        """Run a command under a limit; 124 when it ran past it, 127 when there is none of that name."""
        shell = ["timeout", "--kill-after=5", f"{max(limit, 0.1):.1f}", *command]
        with subprocess.Popen(
            shell,
            cwd=self.logs,
            env={**self.environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                print(line, end="", flush=True, file=log)  # type: ignore[call-overload]
        return process.returncode


def main() -> int:
    """Run the steps; what builds nothing needs the step before it."""
    options = parse()
    session = Session(options)
    results = {}
    for step in options.steps or STEPS:
        results[step] = session.run(step)
        if step == "build" and not results[step]:
            break
    for step, well in results.items():
        print(f"{step}: {'ok' if well else 'failed'} ({session.logs / f'{step}.log'})")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
