# The command infiniop-test: runs the operator cases of GGUF files through the C API, compares every result
# with the expected one, and times the operator.
"""Run operator cases."""

from __future__ import annotations

import argparse
import ctypes
import functools
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

import infinicore
from infinicore.cforms import CArgument, CForm
from infinicore.schema import DTYPES
from infinicore.testing import libinfiniop
from infinicore.testing.elements import PARTS, decode, encode, itemsize
from infinicore.testing.gguf import Case, CaseTensor, read
from infinicore.testing.libinfiniop.structs import infiniopOperatorDescriptor_t, infiniopTensorDescriptor_t
from infinicore.testing.libinfiniop.utils import check_error, create_handle, destroy_handle
from infinicore.testing.tolerance import Tolerance, mismatches, tolerance

__all__ = ["Operation", "main", "run"]

_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2
_DEVICES = "cpu nvidia cambricon ascend metax moore iluvatar kunlun hygon qy".split()  # in the order of C


class DeviceMemory:
    """Memory of the current device.

    Parameters
    ----------
    size : int
        In bytes.
    content : bytes-like, optional
        What it holds at first.
    """

    def __init__(self, size: int, content: np.ndarray | None = None) -> None:
        self.size, self._pointer = size, ctypes.c_void_p()
        check_error(libinfiniop.LIBINFINIOP.infinirtMalloc(ctypes.byref(self._pointer), max(size, 1)))
        if content is not None and size:
            check_error(
                libinfiniop.LIBINFINIOP.infinirtMemcpy(
                    self._pointer, content.ctypes.data, size, _HOST_TO_DEVICE
                )
            )

    @property
    def address(self) -> int:
        """Where it begins."""
        return self._pointer.value or 0

    def read(self) -> np.ndarray:
        """Copy its bytes to the host."""
        return read_bytes(self.address, self.size)

    def free(self) -> None:
        """Give it back."""
        check_error(libinfiniop.LIBINFINIOP.infinirtFree(self._pointer))


def read_bytes(address: int, size: int) -> np.ndarray:
    """Copy bytes of the current device to the host."""
    content = np.empty(size, np.uint8)
    if size:
        check_error(
            libinfiniop.LIBINFINIOP.infinirtMemcpy(content.ctypes.data, address, size, _DEVICE_TO_HOST)
        )
    return content


class DeviceTensor:
    """An operand on the device: its memory and its descriptor, which live until `close`."""

    def __init__(self, tensor: CaseTensor) -> None:
        self.tensor, layout = tensor, tensor.layout
        image = np.zeros(layout.size, f"V{itemsize(tensor.dtype)}")
        if tensor.values is not None and layout.size:
            layout.of(image)[...] = encode(tensor.values, tensor.dtype)  # repeats by strides of 0
        self.memory = DeviceMemory(image.nbytes, image)
        self.address = self.memory.address + layout.offset * image.itemsize
        self.descriptor = infiniopTensorDescriptor_t()
        rank = len(tensor.shape)
        check_error(
            libinfiniop.LIBINFINIOP.infiniopCreateTensorDescriptor(
                ctypes.byref(self.descriptor),
                rank,
                (ctypes.c_size_t * rank)(*tensor.shape),
                (ctypes.c_ssize_t * rank)(*tensor.strides),
                DTYPES[tensor.dtype][0],
            )
        )

    def values(self) -> np.ndarray:
        """Read the elements."""
        dtype = self.tensor.dtype
        return decode(self.tensor.layout.of(self.memory.read().view(f"V{itemsize(dtype)}")), dtype)

    def close(self) -> None:
        """Give memory and descriptor back."""
        check_error(libinfiniop.LIBINFINIOP.infiniopDestroyTensorDescriptor(self.descriptor))
        self.memory.free()


class Operation:
    """A case on the current device, ready to be executed any number of times.

    Parameters
    ----------
    case : Case
    handle : infiniopHandle_t
        Of the current device.
    """

    def __init__(self, case: Case, handle: Any) -> None:
        self.case, self.form = case, CForm(case.schema)
        self.resolved = case.schema.resolve(case.specs())
        self._counted: tuple[ctypes.c_void_p, ctypes.c_size_t] | None = None
        with ExitStack() as opened:
            self.operands: dict[str, Any] = {
                slot: tuple(self._place(opened, part) for part in operand)
                if isinstance(operand, tuple)
                else self._place(opened, operand)
                for slot, operand in case.operands.items()
            }
            c = case.schema.c
            self._descriptor = infiniopOperatorDescriptor_t()
            create = getattr(libinfiniop.LIBINFINIOP, f"infiniopCreate{c.base}Descriptor")
            arguments = [self._argument(argument, "create") for argument in self.form.create]
            check_error(create(handle, ctypes.byref(self._descriptor), *arguments))
            destroy = getattr(libinfiniop.LIBINFINIOP, f"infiniopDestroy{c.of or c.base}Descriptor")
            opened.callback(lambda: check_error(destroy(self._descriptor)))
            workspace: tuple[int, ...] = ()
            if c.workspace:
                size = ctypes.c_uint64()
                ask = getattr(libinfiniop.LIBINFINIOP, f"infiniopGet{c.of or c.base}WorkspaceSize")
                check_error(ask(self._descriptor, ctypes.byref(size)))
                memory = DeviceMemory(size.value)
                opened.callback(memory.free)
                workspace = (memory.address, size.value)
            function = getattr(libinfiniop.LIBINFINIOP, f"infiniop{c.base}")
            given = [self._argument(argument, "execute") for argument in self.form.execute]
            self._call: Callable[[], int] = lambda: function(self._descriptor, *workspace, *given, None)
            self._opened = opened.pop_all()

    def execute(self) -> None:
        """Run the operator once; what its outputs hold then, `results` reads."""
        check_error(self._call())

    def results(self) -> dict[str, np.ndarray]:
        """Wait for the device and read every output."""
        check_error(libinfiniop.LIBINFINIOP.infinirtDeviceSynchronize())
        found = {}
        for p in self.case.schema.outputs:
            if self._counted is not None and p in self.form.deferred:
                pointer, count = self._counted  # memory that the function allocated
                dtype = self.case.operands[p.name].dtype
                content = read_bytes(pointer.value or 0, count.value * itemsize(dtype))
                found[p.name] = decode(content.view(f"V{itemsize(dtype)}"), dtype)
                check_error(libinfiniop.LIBINFINIOP.infinirtFree(pointer))
            else:
                found[p.name] = self.operands[p.name].values()
        return found

    def close(self) -> None:
        """Give everything back."""
        self._opened.close()

    @staticmethod
    def _place(opened: ExitStack, tensor: CaseTensor) -> DeviceTensor:
        placed = DeviceTensor(tensor)
        opened.callback(placed.close)
        return placed

    def _argument(self, argument: CArgument, function: str) -> Any:
        """Return what a C function is given for one of its arguments."""
        p = argument.slot
        if argument.count_of:
            name = argument.count_of[0].name
            return len(self.operands[name] if name in self.operands else self._value(name))
        if argument.dimension:
            if argument.type == "size_t *":  # the function says how many elements it found
                return ctypes.byref(self._counts()[1])
            return self.resolved.symbols[argument.dimension]
        assert p is not None
        if argument.type == "void **":
            return ctypes.byref(self._counts()[0])
        if p.is_tensor:
            placed = self.operands.get(p.name)
            if isinstance(placed, tuple):
                return self._list(placed, function)
            if placed is None:
                return None
            return placed.descriptor if function == "create" else placed.address
        value = self._value(p.name)
        if p.kind == "ints":
            return (ctypes.c_int64 * len(value))(*value)
        return value

    def _value(self, name: str) -> Any:
        return self.resolved.values[self.case.schema.by_name[name].index]

    def _counts(self) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
        if self._counted is None:
            self._counted = (ctypes.c_void_p(), ctypes.c_size_t())
        return self._counted

    @staticmethod
    def _list(placed: tuple[DeviceTensor, ...], function: str) -> Any:
        if function == "create":
            return (infiniopTensorDescriptor_t * len(placed))(*(part.descriptor for part in placed))
        return (ctypes.c_void_p * len(placed))(*(part.address for part in placed))


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
        if operation._counted is not None:  # each execution allocates what `results` gives back
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
