# What goes wrong with CUDA, made to go wrong: each fault is an error that says what happened.
# A fresh process each, since a lost device stays lost and a backend is opened once.
from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from infinicore.testing.known_failures import KnownFailures
from infinicore.testing.runner import run_isolated
from infinicore.testing.suite import Options

REPORT = """
backend = ic.backends["cuda"]
print(len(backend.devices), backend.state, backend.reason)
for step in backend.trail:
    print(step["what"], "|", step["where"], "|", step["result"])
one = ic.ones((2,), dtype=ic.float32, device="cpu")
print((one + one).tolist())
"""


def test_a_driver_that_is_too_old_says_both_versions(python) -> None:
    said = python(REPORT, CUDA_DOUBLE="driver=12020")
    assert "0 unavailable the NVIDIA driver is too old: it supports CUDA 12.2, this wheel needs 13.0" in said
    assert (
        "CUDA driver version is insufficient for CUDA runtime version (cudaErrorInsufficientDriver)" in said
    )
    assert said.endswith("[2.0, 2.0]\n")  # the CPU works


def test_a_machine_without_devices(python) -> None:
    said = python(REPORT, CUDA_DOUBLE="devices=0")
    assert "unavailable the NVIDIA driver has no usable device: no CUDA-capable device is detected" in said


def test_a_machine_without_a_driver_says_where_it_was_looked_for(
    python, folder: Path, tmp_path: Path
) -> None:
    """The runtime is part of the wheel, so only it is there."""
    (tmp_path / "libcudart.so.13").symlink_to(folder / "libcudart.so.13")
    said = python(REPORT, LD_LIBRARY_PATH=str(tmp_path))
    assert "unavailable the NVIDIA driver is not installed: there is no libcuda.so.1" in said
    assert "libcuda.so.1 | the dynamic loader's path | not found" in said
    assert said.endswith("[2.0, 2.0]\n")


PROGRAM = """
import gc

def program():
    a, b, weight = on(array(8, 8)), on(array(8, 8)), on(array(8))
    with ic.stream(ic.Stream("cuda")) as stream:
        c = ic.linear(ic.rms_norm(a, weight), b)
        done = ic.DeviceEvent(device="cuda")
        done.record()
    done.synchronize()
    values, order = ic.sort(ic.sum(a, 1))  # with a workspace
    with ic.graph("cuda") as g:
        d = ic.add(a, b)
    g.run()
    return c.tolist(), ic.matmul(d, c).tolist(), order.tolist()

def clean():
    gc.collect()
    ic.synchronize("cuda")
    ic.empty_cache("cuda")
    return {name: live(name) for name in ("memory", "pinned", "stream", "event", "graph", "exec")}

want = program()
before = clean()
"""
#: Functions that a program calls -> what they return when they fail, how many times in a row, and what the
#: error says. Core asks for memory three times: after it gave its cache back, and for the very size.
FAULTS = {
    "cudaMalloc": (2, 3, "OutOfMemory"),
    "cudaLaunchKernel": (1, 1, "a kernel was not launched: invalid argument"),
    "cudaMemcpyAsync": (1, 1, "cudaMemcpyAsync: invalid argument"),
    "cudaEventCreateWithFlags": (2, 1, "cudaEventCreateWithFlags: out of memory"),
    "cudaEventRecord": (400, 1, "cudaEventRecord: invalid resource handle"),
    "cudaStreamBeginCapture": (2, 1, "cudaStreamBeginCapture: out of memory"),
    "cudaGraphInstantiate": (2, 1, "cudaGraphInstantiate: out of memory"),
    "cudaGraphLaunch": (1, 1, "cudaGraphLaunch: invalid argument"),
    "cublasLtMatmul": (13, 1, "cublasLtMatmul"),
}


@pytest.mark.parametrize("function", FAULTS)
def test_any_call_of_a_program_may_fail(python, function: str) -> None:
    """Let the n-th call fail, for every n there is: an error says so, or the result is right without it.

    Nothing is leaked, and life goes on.
    """
    code, times, words = FAULTS[function]
    said = python(
        PROGRAM
        + f"""
n = 0
while True:
    n += 1
    configure(" ".join(["fail={function}:" + str(n) + ":{code}"] * {times}))
    try:
        assert program() == want, n
    except ic.Error as error:
        print(n, type(error).__name__, error)
    else:
        print(n, "no error")
    missed = double.cuda_double_pending()
    configure("forget=faults")
    error = None
    after = clean()
    assert after == before, (n, before, after)
    assert program() == want, n
    clean()
    if missed == {times}:
        break
print("calls:", n - 1)
"""
    )
    lines = said.splitlines()
    calls = int(lines[-1].removeprefix("calls: "))
    failed = [line for line in lines[:calls] if not line.endswith(" no error")]
    assert failed, said
    assert all(words in line for line in failed), said
    if not function.startswith("cudaEvent"):  # where core has no event it waits for the device
        assert len(failed) == calls, said


def test_a_request_that_no_device_can_meet(python) -> None:
    said = python(
        """
        error_of(ic.empty, (1 << 30,), dtype=ic.float64, device="cuda")
        print((on(array(3)) + on(array(3))).tolist())
        """
    )
    assert "OutOfMemory cuda:0: out of memory: 8589934592 bytes requested" in said
    assert said.endswith("[0.0, 2.0, 4.0]\n")


def test_a_launch_that_is_refused_names_the_operator(python) -> None:
    said = python(
        """
        a = on(array(4))
        ic.synchronize("cuda")
        configure("fail=cudaLaunchKernel:1:1")
        error_of(ic.add, a, a)
        print((a + a).tolist())
        """
    )
    assert "add: a kernel was not launched: invalid argument" in said
    assert said.endswith("[0.0, 2.0, 4.0, 6.0]\n")  # refused, not sticky


def test_a_device_that_the_wheel_has_no_code_for(python) -> None:
    said = python("a = on(array(4)); configure('fail=cudaLaunchKernel:1:209'); error_of(ic.add, a, a)")
    assert (
        "add: a kernel was not launched: no kernel image is available for execution on the device "
        "(cudaErrorNoKernelImageForDevice)" in said
    )


def test_a_kernel_that_fails_is_reported_by_whoever_waits(python) -> None:
    said = python(
        """
        a = on(array(4))
        configure("fail=kernel:1:719")
        b = a + a
        error_of(ic.synchronize, "cuda")
        error_of(ic.mul, a, a)
        """
    )
    assert said.count("unspecified launch failure") == 2  # a lost device stays lost
    assert "cudaErrorLaunchFailure" in said


def test_launch_blocking_reports_it_at_the_operator(python) -> None:
    said = python(
        """
        a = on(array(4))
        configure("fail=kernel:1:700")
        error_of(ic.add, a, a)
        """,
        INFINICORE_LAUNCH_BLOCKING="1",
    )
    assert "add:" in said and "an illegal memory access was encountered (cudaErrorIllegalAddress)" in said


def test_launch_blocking_reports_it_at_the_graph(python) -> None:
    said = python(
        """
        a = on(array(4))
        configure("fail=kernel:1:700")
        with ic.graph("cuda") as step:
            a + a
        error_of(step.run)
        """,
        INFINICORE_LAUNCH_BLOCKING="1",
    )
    assert "Graph.run:" in said and "an illegal memory access was encountered" in said


def test_a_device_without_memory_that_streams_allocate(python) -> None:
    """Virtual machines have such devices: what a stream asks for is then ordinary memory."""
    said = python(
        """
        from ctypes import byref, c_uint64, c_void_p
        runtime, before = tables().runtime, live("memory")
        runtime.set_device(0)
        memory, back = c_void_p(), ctypes.create_string_buffer(8)
        runtime.malloc_async(c_uint64(8), None, byref(memory))
        runtime.memset_async(memory, 7, c_uint64(8), None)
        runtime.memcpy_sync(back, memory, c_uint64(8), 2)
        print(back.raw == bytes([7]) * 8, live("memory") - before)
        runtime.free_async(memory, None)
        print(live("memory") - before)
        """,
        CUDA_DOUBLE="pools=0",
    )
    assert said == "True 1\n0\n"


def test_without_nvml_the_runtime_says_what_it_knows(python, folder: Path, tmp_path: Path) -> None:
    for name in ("libcudart.so.13", "libcuda.so.1", "libinfinicore_cuda.so"):
        (tmp_path / name).symlink_to(folder / name)
    said = python(
        """
        class Resources(ctypes.Structure):
            _fields_ = [(name, ctypes.c_uint64) for name in ("header", "valid", "used", "total")]
            _fields_ += [(name, ctypes.c_double) for name in ("compute", "bandwidth", "kernels", "traffic")]
        a, found = on(array(4)), Resources(ctypes.sizeof(Resources))
        tables().runtime.resources(0, ctypes.byref(found))
        print(found.valid, found.used > 0, found.total)
        error_of(tables().runtime.resources, 9, ctypes.byref(found))
        """,
        LD_LIBRARY_PATH=str(tmp_path),
    )
    assert said.startswith(f"3 True {2 << 30}\n")
    assert "invalid device ordinal (cudaErrorInvalidDevice)" in said


def test_launch_blocking_lets_graphs_be_captured(python) -> None:
    said = python(
        """
        a = on(array(4))
        with ic.graph("cuda") as g:
            b = a + a
        g.run()
        print(g.captured, b.tolist())
        """,
        INFINICORE_LAUNCH_BLOCKING="1",
    )
    assert said == "True [0.0, 2.0, 4.0, 6.0]\n"


def test_a_lost_device_does_not_take_the_process_along(python) -> None:
    said = python(
        """
        a, other = on(array(4)), on(array(4), "cuda:1")
        configure("fail=kernel:1:719")
        b = a + a
        error_of(b.tolist)
        print((other + other).tolist())
        print("and out")
        """
    )
    assert "unspecified launch failure" in said
    assert "[0.0, 2.0, 4.0, 6.0]\nand out" in said  # the other device works, and the process ends in order


SYMBOLS = {
    "libcublasLt.so.13": ("cublasLtMatmul", "error_of(ic.matmul, on(array(2, 3)), on(array(3, 2)))"),
    "libnccl.so.2": ("ncclSend", "error_of(tables().ccl.unique_id, ctypes.create_string_buffer(4096))"),
}


@pytest.mark.parametrize("library", SYMBOLS)
def test_a_library_that_lacks_one_symbol(
    python, build: ModuleType, folder: Path, tmp_path: Path, library: str
) -> None:
    symbol, code = SYMBOLS[library]
    build.without(folder, library, symbol, tmp_path)
    said = python(code + "\nprint((on(array(2)) + on(array(2))).tolist())", tmp_path)
    assert f"{library} has no function {symbol}: install a newer version of that library" in said
    assert said.endswith("[0.0, 2.0]\n")  # everything else works


def test_libraries_that_are_missing_are_named_with_what_helps(python, folder: Path, tmp_path: Path) -> None:
    for name in ("libcudart.so.13", "libcuda.so.1"):
        (tmp_path / name).symlink_to(folder / name)
    said = python(
        """
        error_of(ic.matmul, on(array(2, 3)), on(array(3, 2)))
        print((on(array(2)) + on(array(2))).tolist())
        """,
        LD_LIBRARY_PATH=str(tmp_path),
    )
    assert "gemm: libcublasLt.so.13 is not on this machine: pip install infinicore-cuda[cu13]" in said
    assert "looked for libcublasLt.so.13 and libcublasLt.so.12 in" in said
    assert said.endswith("[0.0, 2.0]\n")


@pytest.mark.parametrize("library", SYMBOLS)
def test_a_library_that_is_installed_meanwhile_is_found(
    python, folder: Path, tmp_path: Path, library: str
) -> None:
    for name in ("libcudart.so.13", "libcuda.so.1", "libinfinicore_cuda.so"):
        (tmp_path / name).symlink_to(folder / name)
    _, code = SYMBOLS[library]
    said = python(
        f"import os\n{code}\nos.symlink('{folder / library}', '{library}')\n{code}",
        LD_LIBRARY_PATH=str(tmp_path),
    )
    first, second = said.splitlines()
    assert f"{library} is not on this machine" in first and second == "no error"


def test_nothing_is_left_behind(python) -> None:
    said = python(
        """
        import gc
        def work():
            a, b = on(array(8, 8)), on(array(8, 8))
            with ic.stream(ic.Stream("cuda")):
                ic.matmul(a, b)
                ic.linear(a, b, on(array(16))[::2])
            with ic.graph("cuda") as g:
                ic.add(a, b)
            g.run()
            start, end = (ic.DeviceEvent(device="cuda", enable_timing=True) for _ in range(2))
            start.record(); end.record(); end.synchronize()
            assert start.elapsed_time(end) >= 0
        what = ("memory", "pinned", "stream", "event", "graph", "exec")
        work(); gc.collect(); ic.synchronize("cuda"); ic.empty_cache("cuda")
        before = [live(name) for name in what]
        for _ in range(3):
            work()
        gc.collect(); ic.synchronize("cuda"); ic.empty_cache("cuda")
        after = [live(name) for name in what]
        print(before == after, before, after)
        """
    )
    assert said.startswith("True"), said


BREAKS = """
import ctypes
import infinicore as ic
from infinicore.testing.suite import check

def doubled(target):
    one = ic.ones((2,), dtype=ic.float32, device=target.device)
    return (one + one).tolist()

@check("stress", "device")
def works(target):
    assert doubled(target) == [2, 2]

@check("stress", "device")
def breaks(target):
    ctypes.CDLL("libcudart.so.13").cuda_double_configure(b"fail=kernel:1:700")
    doubled(target)

@check("stress", "device")
def works_behind(target):
    assert doubled(target) == [2, 2]
"""


def test_a_check_that_breaks_the_device_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong address is the last thing that CUDA does for a process: the kit goes on in another one."""
    (tmp_path / "sitecustomize.py").write_text(BREAKS)
    monkeypatch.syspath_prepend(tmp_path)
    options = Options("cuda", operators=(), tests=("stress",), iterations=1)
    outcomes = {o.id: o for o in run_isolated(options, KnownFailures())}
    assert {o.id for o in outcomes.values() if o.state == "failed"} == {"device.breaks"}
    assert "an illegal memory access was encountered" in outcomes["device.breaks"].message
    assert outcomes["device.works_behind"].state == "passed"


def test_a_device_that_is_lost_for_good_leaves_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kit's next process finds no device any more: what came of the checks before is kept."""
    gone = f'open({str(tmp_path / "gone")!r}, "w").close()'
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        f"if os.path.exists({str(tmp_path / 'gone')!r}):\n    os.environ['CUDA_DOUBLE'] = 'devices=0'\n"
        + BREAKS.replace("    doubled(target)\n\n", f"    {gone}\n    doubled(target)\n\n")
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = Options("cuda", operators=(), tests=("stress",), iterations=1)
    outcomes = run_isolated(options, KnownFailures())
    assert [(o.id, o.state) for o in outcomes] == [
        ("device.works", "passed"), ("device.breaks", "failed"), ("kit.goes_on", "failed")
    ]  # fmt: skip
    assert "no CUDA-capable device is detected" in outcomes[-1].message
