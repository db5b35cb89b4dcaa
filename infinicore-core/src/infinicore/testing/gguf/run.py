# The command infiniop-test: runs the operator cases of GGUF files through the C API, compares every result
# with the expected one, and times the operator.
"""Run operator cases."""

from __future__ import annotations

import argparse
import functools
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import infinicore
from infinicore.schema import DTYPES
from infinicore.testing import libinfiniop
from infinicore.testing.elements import PARTS
from infinicore.testing.gguf import Case, read
from infinicore.testing.gguf.operation import Operation
from infinicore.testing.libinfiniop.utils import check_error, create_handle, destroy_handle
from infinicore.testing.tolerance import Tolerance, mismatches, tolerance

__all__ = ["main", "run"]

_DEVICES = "cpu nvidia cambricon ascend metax moore iluvatar kunlun hygon qy".split()  # in the order of C


def run(
    case: Case, handle: Any, *, warmup: int, runs: int, allowed: Callable[[str, str], Tolerance] = tolerance
) -> tuple[list[str], float]:
    """Run a case.

    Parameters
    ----------
    case : Case
    handle : infiniopHandle_t
        Of the current device.
    warmup, runs : int
        How often to execute before, and while, the clock runs.
    allowed : function
        ``(operator, dtype) -> Tolerance``.

    Returns
    -------
    problems : list of str
        What is wrong with the results; empty where nothing is.
    seconds : float
        Of one execution; 0 where there was none.
    """
    operation = Operation(case, handle)
    try:
        operation.execute()
        problems = _differences(case, operation.results(), allowed)
        if operation.allocates:  # what nobody reads would stay allocated
            return problems, 0.0
        for _ in range(warmup):
            operation.execute()
        check_error(libinfiniop.LIBINFINIOP.infinirtDeviceSynchronize())
        start = time.perf_counter()
        for _ in range(runs):
            operation.execute()
        check_error(libinfiniop.LIBINFINIOP.infinirtDeviceSynchronize())
        return problems, (time.perf_counter() - start) / max(runs, 1) if runs else 0.0
    finally:
        operation.close()


def _differences(
    case: Case, got: dict[str, np.ndarray], allowed: Callable[[str, str], Tolerance]
) -> list[str]:
    problems = []
    for p in case.schema.outputs:
        values, want, dtype = got[p.name], case.expected[p.name], case.operands[p.name].dtype
        if values.shape != want.shape:
            problems.append(f"{p.name} has shape {list(values.shape)}, expected {list(want.shape)}")
            continue
        bound = allowed(case.schema.name, DTYPES[dtype][1])
        wrong = mismatches(values, want, bound, PARTS.get(dtype, dtype))
        if wrong.any():
            first = tuple(int(axis[0]) for axis in np.nonzero(np.atleast_1d(wrong))) if values.ndim else ()
            problems.append(
                f"{p.name}: {int(wrong.sum())} of {wrong.size} elements are wrong; first at {list(first)}: "
                f"got {values[first]!r}, expected {want[first]!r} (allowed: {bound})"
            )
    return problems


# ---- the command -------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command infiniop-test; the exit status is 0 where every case passed."""
    parser = argparse.ArgumentParser(
        prog="infiniop-test",
        description="Run the operator cases of GGUF files through the C API: compare each result with the "
        "expected one, and time the operator.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE")
    for number, name in enumerate(_DEVICES):
        parser.add_argument(
            f"--{name}",
            dest="device",
            type=functools.partial(_device_of, number),
            nargs="?",
            const=(number, 0),
            default=(0, 0),
            metavar="INDEX",
            help=f"run on {name}, or on {name}:INDEX",
        )
    parser.add_argument(
        "--device", type=_device_named, metavar="NAME[:INDEX]", help="run on a device of any other backend"
    )
    parser.add_argument("--warmup", type=int, default=20, help="executions before the clock (%(default)s)")
    parser.add_argument("--run", type=int, default=1000, help="executions that are timed (%(default)s)")
    parser.add_argument("--rtol", type=float, help="relative tolerance; by default the operator's own")
    parser.add_argument("--atol", type=float, help="absolute tolerance; by default the operator's own")
    given = sys.argv[1:] if arguments is None else arguments
    # --nvidia:1 means the device with this index; argparse wants --nvidia=1.
    options = parser.parse_args([re.sub(r"^(--[a-z]+):(\d+)$", r"\1=\2", word) for word in given])

    same = None
    if options.rtol is not None or options.atol is not None:
        same = Tolerance(rtol=options.rtol or 0.0, atol=options.atol or 0.0)

    def allowed(operator: str, dtype: str) -> Tolerance:
        return same or tolerance(operator, dtype)

    try:
        cases = [(path, index, case) for path in options.files for index, case in enumerate(read(path))]
        handle = _open(*options.device)
    except Exception as error:  # no such file, no operator cases in it, no such device
        parser.error(str(error))
    failed = 0
    try:
        for path, index, case in cases:
            try:
                counts = {"warmup": options.warmup, "runs": options.run}
                problems, seconds = run(case, handle, **counts, allowed=allowed)
            except Exception as error:  # a case that cannot run fails; the others still run
                problems, seconds = [str(error)], 0.0
            verdict = "FAILED" if problems else "PASSED"
            print(f"{path}: test {index}: {verdict}  {seconds * 1e3:10.6f} ms  {case}")
            for problem in problems:
                print(f"    {problem}")
            failed += bool(problems)
    finally:
        destroy_handle(handle)
    print(f"{len(cases) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _device_of(number: int, index: str) -> tuple[int, int]:
    return number, int(index)


def _device_named(text: str) -> tuple[int, int]:
    device = infinicore.device(text)
    return infinicore.backends[device.type].number, device.index


def _open(number: int, index: int) -> Any:
    """Make a device the current one and return a handle of it."""
    check_error(libinfiniop.LIBINFINIOP.infinirtInit())
    check_error(libinfiniop.LIBINFINIOP.infinirtSetDevice(number, index))
    return create_handle()


if __name__ == "__main__":
    raise SystemExit(main())
