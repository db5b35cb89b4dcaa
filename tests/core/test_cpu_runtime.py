# The CPU backend below its operators: environment variables, memory, events, threads, fork, instruction sets.
# What is decided once per process is tested in a fresh one.
"""Tests of the runtime of the backend ``cpu``."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import infinicore as ic

INSTRUCTION_SETS = ("generic", "x86_64_v3", "x86_64_v4") if platform.machine() == "x86_64" else ("generic",)


def python(code, **environment):
    """Run code in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def architecture_under(isa):
    """Return the architecture that the backend reports under INFINICORE_CPU_ISA, or its refusal."""
    return python(
        """
        import infinicore as ic
        try:
            print(ic.device_info("cpu")["architecture"])
        except ic.BackendUnavailable as error:
            print(error)
        """,
        INFINICORE_CPU_ISA=isa,
    ).strip()


# ---- what the environment sets -------------------------------------------------------------------


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_the_instruction_set_can_be_lowered(isa):
    expected = {"generic": "x86-64-v2" if len(INSTRUCTION_SETS) > 1 else platform.machine()}
    found = architecture_under(isa)
    assert found == expected.get(isa, isa.replace("x86_64_", "x86-64-")) or "does not have" in found
    if isa == "generic":
        assert "does not have" not in found


def test_an_unknown_instruction_set_is_refused():
    found = architecture_under("x86_64_v9")
    assert "INFINICORE_CPU_ISA is 'x86_64_v9'" in found
    assert all(isa in found for isa in INSTRUCTION_SETS)


@pytest.mark.parametrize("variable", ["INFINICORE_NUM_THREADS", "INFINICORE_CPU_DEVICES"])
@pytest.mark.parametrize("value", ["0", "-1", "two", "1e3", "100000"])
def test_a_bad_number_is_refused(variable, value):
    found = python(
        """
        import infinicore as ic
        try:
            ic.device_info("cpu")
        except ic.Error as error:
            print(error)
        """,
        **{variable: value},
    )
    assert f"{variable} is '{value}': expected a number from 1 to" in found


def test_more_devices_than_one():
    found = python(
        """
        import infinicore as ic
        x = ic.full((3,), 2, dtype=ic.float32, device="cpu:2")
        print(x.device, x.to("cpu:0").tolist(), ic.device_info("cpu:2")["compute_units"])
        """,
        INFINICORE_CPU_DEVICES="3",
        INFINICORE_NUM_THREADS="2",
    )
    assert found.split("\n")[0] == "cpu:2 [2.0, 2.0, 2.0] 2"


def test_a_device_beyond_the_last_is_not_found():
    with pytest.raises(ic.DeviceNotFound):
        ic.empty((1,), dtype=ic.float32, device="cpu:63")


# ---- facts and memory ----------------------------------------------------------------------------


def test_device_info_describes_this_machine():
    info = ic.device_info("cpu")
    assert info["name"]
    assert info["driver"].startswith(os.uname().sysname)
    assert info["warp_width"] == 1
    assert 1 <= info["compute_units"] <= 1024
    free, total = ic.memory_info("cpu")
    assert 0 < free <= total == info["memory_bytes"]
    assert total <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_too_large_an_allocation_raises():
    size = 1 << 50
    with pytest.raises(ic.OutOfMemory, match=str(size)) as caught:
        ic.empty((size,), dtype=ic.uint8, device="cpu")
    assert isinstance(caught.value, MemoryError)
    assert ic.zeros((4,), dtype=ic.uint8, device="cpu").tolist() == [0, 0, 0, 0]  # and nothing is broken


@pytest.mark.parametrize("size", [1, 63, 4096, 1 << 21, (1 << 21) + 1, 3 << 22])
def test_memory_is_aligned(size):
    assert ic.empty((size,), dtype=ic.uint8, device="cpu").data_ptr() % 64 == 0


@pytest.mark.parametrize("size", [1, 1000, (1 << 18) + 7, (1 << 24) + 13])
def test_copies_of_every_size(size):
    """From below one thread's share to beyond the size from which stores bypass the caches."""
    values = np.arange(size, dtype=np.uint32).astype(np.uint8)
    tensor = ic.from_numpy(values).clone()
    assert np.array_equal(tensor.numpy(), values)


# ---- streams and events --------------------------------------------------------------------------


def test_events_measure_time():
    start, end = (ic.DeviceEvent(device="cpu", enable_timing=True) for _ in range(2))
    start.record()
    ic.ones((1 << 20,), dtype=ic.float32, device="cpu")
    end.record()
    assert end.query()
    end.synchronize()
    elapsed = start.elapsed_time(end)
    assert elapsed > 0
    assert end.elapsed_time(start) == pytest.approx(-elapsed)


# ---- threads -------------------------------------------------------------------------------------

LARGE = 1 << 20  # elements: enough for every thread


def test_threads_share_the_pool():
    """Several threads compute at once: one has the pool, the others work alone, all are right."""
    x = ic.from_numpy(np.arange(LARGE, dtype=np.float32))
    expected = np.arange(LARGE, dtype=np.float32) * 2
    wrong = []

    def work():
        for _ in range(20):
            if not np.array_equal(ic.add(x, x).numpy(), expected):
                wrong.append(threading.get_ident())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_results_do_not_depend_on_the_number_of_threads(threads):
    code = """
        import infinicore as ic, numpy as np
        values = np.random.default_rng(0).standard_normal((1500, 1001)).astype(np.float32)
        x = ic.from_numpy(values)
        columns = ic.sum(x, 0).numpy().tobytes().hex()
        print(ic.sum(x).item().hex(), columns, ic.argmax(ic.add(x, x)).item())
        """
    assert python(code, INFINICORE_NUM_THREADS=threads) == python(code, INFINICORE_NUM_THREADS="3")


def test_a_forked_child_computes():
    """The pool's threads do not survive a fork; the child starts its own."""
    found = python(
        f"""
        import os, warnings
        warnings.simplefilter("ignore")
        import infinicore as ic
        x = ic.ones(({LARGE},), dtype=ic.float32, device="cpu")
        assert ic.sum(ic.add(x, x)).item() == {2 * LARGE}
        for _ in range(5):
            child = os.fork()
            if child == 0:
                os._exit(0 if ic.sum(ic.add(x, x)).item() == {2 * LARGE} else 3)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        print(ic.sum(ic.add(x, x)).item())
        """,
        INFINICORE_NUM_THREADS="4",
    )
    assert float(found) == 2 * LARGE


def test_the_process_exits_while_workers_wait():
    code = f"""
        import infinicore as ic
        x = ic.ones(({LARGE},), dtype=ic.float32, device="cpu")
        print(ic.add(x, x)[0].item())
        """
    assert python(code, INFINICORE_NUM_THREADS="8").strip() == "2.0"


def test_idle_workers_sleep():
    """A pool at rest waits in the kernel, not in a loop."""
    found = python(
        f"""
        import os, time
        import infinicore as ic
        x = ic.ones(({LARGE},), dtype=ic.float32, device="cpu")
        ic.add(x, x)
        time.sleep(0.3)
        for task in os.listdir("/proc/self/task"):
            if int(task) != os.getpid():
                print(open(f"/proc/self/task/{{task}}/stat").read().rpartition(")")[2].split()[0])
        """,
        INFINICORE_NUM_THREADS="3",
        OPENBLAS_NUM_THREADS="1",
    )
    assert found.split() == ["S", "S"]


def test_an_error_in_a_kernel_leaves_the_pool_usable():
    table = ic.ones((4, 1 << 16), dtype=ic.float32, device="cpu")
    with pytest.raises(ic.Error, match=r"embedding.*index 4.*v = 4"):
        ic.nn.functional.embedding(ic.from_numpy(np.array([0, 4] * 1000)), table)
    x = ic.ones((LARGE,), dtype=ic.float32, device="cpu")
    assert ic.sum(ic.add(x, x)).item() == 2 * LARGE


# ---- instruction sets give the same answers --------------------------------------------------------

EVERYTHING = """
    import hashlib, itertools
    import infinicore as ic, numpy as np
    rng = np.random.default_rng(0)
    digest = hashlib.sha256()
    names = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()
    names += "float8 float16 float32 float64 bfloat16".split()
    values = ic.from_numpy((rng.standard_normal(1003) * 20).astype(np.float64))
    edge = ic.from_numpy(np.array([0.0, -0.0, 65519.9, 65520.0, 464.0, 465.0, 6e-8, 2.9e-8, 1e-45, 3.39e38,
                                   np.inf, -np.inf, np.nan]))
    for name in names:
        x = values.to(dtype=getattr(ic, name))
        for other in names:
            if other.startswith("u") and not name.startswith("u"):
                continue  # a negative float as an unsigned integer is the processor's choice
            digest.update(x.to(dtype=getattr(ic, other)).to(dtype=ic.float64).numpy().tobytes())
        if "float" in name:
            rounded = edge.to(dtype=getattr(ic, name)).to(dtype=ic.float64).numpy()
            digest.update(np.nan_to_num(rounded, nan=9).tobytes())
    for op, name in itertools.product((ic.add, ic.sub, ic.mul, ic.less, ic.equal), names[1:]):
        x = values.to(dtype=getattr(ic, name))
        if name == "float8" and op in (ic.add, ic.sub, ic.mul):
            continue
        digest.update(op(x[:-1], x[1:]).to(dtype=ic.float64).numpy().tobytes())
    print(digest.hexdigest())
    """


@pytest.mark.skipif(len(INSTRUCTION_SETS) == 1, reason="one instruction set")
@pytest.mark.parametrize("isa", INSTRUCTION_SETS[1:])
def test_every_instruction_set_computes_the_same(isa):
    """Conversions and arithmetic are exactly rounded, so not a bit may differ."""
    if "does not have" in architecture_under(isa):
        pytest.skip(f"this processor has no {isa}")
    assert python(EVERYTHING, INFINICORE_CPU_ISA=isa) == python(EVERYTHING, INFINICORE_CPU_ISA="generic")
