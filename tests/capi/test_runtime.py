# The runtime functions on both kinds of memory, graphs, threads, collectives, and the registry that C and
# Python share: a kernel that is put in another's place is used by both.
"""libinfinirt and libinfiniccl at work, and the registry."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import textwrap
import threading
from typing import Any

import numpy as np
import pytest

import infinicore as ic
from infinicore.testing import sim

from .clibrary import ROOT, CError, Handle, Operation, check, collectives, operators, runtime

sim.enable()
DEVICES = ["cpu", "sim"]
H2D, D2H, D2D = 1, 2, 3
F32 = 13


def choose(device: str, index: int = 0) -> int:
    number = int(ic.backends[device].open().number)
    check(runtime.infinirtSetDevice(number, index))
    return number


def pointer(function: str, *arguments: Any) -> ctypes.c_void_p:
    """What a runtime function hands back through its first argument."""
    made = ctypes.c_void_p()
    check(getattr(runtime, function)(ctypes.byref(made), *arguments))
    return made


def size(count: int) -> ctypes.c_size_t:
    return ctypes.c_size_t(count)


def to_device(values: np.ndarray) -> ctypes.c_void_p:
    memory = pointer("infinirtMalloc", size(values.nbytes))
    check(runtime.infinirtMemcpy(memory, values.ctypes.data_as(ctypes.c_void_p), size(values.nbytes), H2D))
    return memory


def to_host(memory: ctypes.c_void_p, count: int) -> np.ndarray:
    values = np.empty(count, np.float32)
    check(runtime.infinirtMemcpy(values.ctypes.data_as(ctypes.c_void_p), memory, size(values.nbytes), D2H))
    return values


@pytest.mark.parametrize("device", DEVICES)
def test_devices_and_memory(device: str) -> None:
    number = choose(device)
    kind, index, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    check(runtime.infinirtGetDevice(ctypes.byref(kind), ctypes.byref(index)))
    assert (kind.value, index.value) == (number, 0)
    check(runtime.infinirtGetDeviceCount(number, ctypes.byref(count)))
    assert count.value == ic.get_device_count(device)
    assert runtime.infinirtSetDevice(number, count.value) == 6
    assert f"{device}: device {count.value} does not exist".encode() in runtime.infiniGetLastError()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    check(runtime.infinirtGetMemInfo(number, 0, ctypes.byref(free), ctypes.byref(total)))
    assert 0 < free.value <= total.value
    snapshot = (ctypes.c_uint64 * 7)()
    check(runtime.infinirtGetDeviceResourceSnapshot(number, 0, snapshot))
    assert snapshot[0] & 1 and snapshot[2] == total.value

    values = np.arange(6, dtype=np.float32)
    memory, copy = to_device(values), pointer("infinirtMalloc", size(24))
    check(runtime.infinirtMemcpy(copy, memory, size(24), D2D))
    assert (to_host(copy, 6) == values).all()
    check(runtime.infinirtMemset(copy, 0, size(12)))
    assert (to_host(copy, 6) == [0, 0, 0, 3, 4, 5]).all()
    for one in (memory, copy, None):
        check(runtime.infinirtFree(one))
    host = pointer("infinirtMallocHost", size(64))
    ctypes.memset(host, 7, 64)
    check(runtime.infinirtFreeHost(host))
    assert pointer("infinirtMalloc", size(0)).value is None
    assert runtime.infinirtMalloc(None, size(8)) == 4
    check(runtime.infinirtDeviceSynchronize())


@pytest.mark.parametrize("device", DEVICES)
def test_streams_and_events(device: str) -> None:
    choose(device)
    stream, other = pointer("infinirtStreamCreate"), pointer("infinirtStreamCreate")
    start, end = pointer("infinirtEventCreate"), pointer("infinirtEventCreateWithFlags", ctypes.c_uint32(0))
    memory = pointer("infinirtMallocAsync", size(4096), stream)
    check(runtime.infinirtEventRecord(start, stream))
    check(runtime.infinirtMemsetAsync(memory, 0, size(4096), stream))
    check(runtime.infinirtEventRecord(end, stream))
    check(runtime.infinirtStreamWaitEvent(other, end))
    check(runtime.infinirtEventSynchronize(end))
    status, milliseconds = ctypes.c_int(-1), ctypes.c_float(-1)
    check(runtime.infinirtEventQuery(end, ctypes.byref(status)))
    assert status.value == 0
    check(runtime.infinirtEventElapsedTime(ctypes.byref(milliseconds), start, end))
    assert milliseconds.value >= 0
    check(runtime.infinirtFreeAsync(memory, stream))
    for one in (stream, other):
        check(runtime.infinirtStreamSynchronize(one))
        check(runtime.infinirtStreamDestroy(one))
    for one in (start, end):
        check(runtime.infinirtEventDestroy(one))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("spelling", ["infinirtGraphLuanch", "infinirtGraphLaunch"])
def test_graphs(device: str, spelling: str) -> None:
    """A graph does again what its stream was given, with what is in memory by then."""
    choose(device)
    stream = pointer("infinirtStreamCreate")
    a, b = to_device(np.ones(4, np.float32)), to_device(np.full(4, 2, np.float32))
    f32 = ((4,), None, "f32")
    with Handle(device) as handle:
        add = Operation(handle, "add", [f32] * 3, [None] * 3)
        check(runtime.infinirtStreamBeginCapture(stream, 2))
        check(operators.infiniopAdd(add.descriptor, None, size(0), a, a, b, stream))
        check(runtime.infinirtMemcpyAsync(b, a, size(16), D2D, stream))
        graph, exec_ = ctypes.c_void_p(), ctypes.c_void_p()
        check(runtime.infinirtStreamEndCapture(stream, ctypes.byref(graph)))
        assert (to_host(a, 4) == 1).all()  # recorded, not done
        log = ctypes.create_string_buffer(b"?", 64)
        check(runtime.infinirtGraphInstantiate(ctypes.byref(exec_), graph, None, log, size(64)))
        assert log.value == b""
        check(runtime.infinirtGraphDestroy(graph))
        add.destroy()  # the graph holds what it needs
        for want in (3, 6, 12):
            check(getattr(runtime, spelling)(exec_, stream))
            check(runtime.infinirtStreamSynchronize(stream))
            assert (to_host(a, 4) == want).all() and (to_host(b, 4) == want).all()
        check(runtime.infinirtGraphExecDestroy(exec_))
    for memory in (a, b):
        check(runtime.infinirtFree(memory))
    check(runtime.infinirtStreamDestroy(stream))


def test_what_python_remembers_of_the_current_device_survives_c() -> None:
    ic.zeros((1,), dtype=ic.float32, device="sim:0")
    choose("sim", 1)
    check(runtime.infinirtFree(pointer("infinirtMalloc", size(64))))
    tensor = ic.ones((3,), dtype=ic.float32, device="sim:0")  # would fault on the other device's memory
    assert (tensor + tensor).tolist() == [2, 2, 2]


def test_threads_have_their_own_device_message_and_results() -> None:
    f32 = ((64, 64), None, "f32")
    choose("cpu")
    with Handle("cpu") as handle:
        gemm = Operation(handle, "gemm", [f32] * 3, [None, None, None, 1.0, 0.0])
        wrong: list[Any] = []

        def work(seed: int) -> None:
            try:
                choose(DEVICES[seed % 2])
                a = np.random.default_rng(seed).standard_normal((64, 64)).astype(np.float32)
                c = np.zeros_like(a)
                for _ in range(20):
                    gemm([array.ctypes.data for array in (c, a, a)])
                    assert np.allclose(c, a @ a, atol=1e-3)
                    assert runtime.infinirtSetDevice(1000 + seed, 0) == 5
                    assert str(1000 + seed).encode() in runtime.infiniGetLastError()
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gemm.destroy()
    assert not wrong


# ---- collectives -------------------------------------------------------------------------------------------


def test_collectives_between_two_devices() -> None:
    number = choose("sim")
    comms = (ctypes.c_void_p * 2)()
    check(collectives.infinicclCommInitAll(number, comms, 2, (ctypes.c_int * 2)(0, 1)))
    buffers = []
    for rank in range(2):
        choose("sim", rank)
        buffers.append((to_device(np.full(4, rank + 1, np.float32)), to_device(np.zeros(8, np.float32))))

    def on_all(function: str, *arguments: Any, count: int = 4) -> list[np.ndarray]:
        check(collectives.infinicclGroupStart(ctypes.c_void_p(comms[0])))
        for rank in range(2):
            choose("sim", rank)
            send, receive = buffers[rank]
            check(
                getattr(collectives, function)(send, receive, *arguments, ctypes.c_void_p(comms[rank]), None)
            )
        check(collectives.infinicclGroupEnd(ctypes.c_void_p(comms[0])))
        found = []
        for rank in range(2):
            choose("sim", rank)
            check(runtime.infinirtDeviceSynchronize())
            found.append(to_host(buffers[rank][1], count))
        return found

    assert all((x == 3).all() for x in on_all("infinicclAllReduce", size(4), F32, 0))
    assert all((x == 2).all() for x in on_all("infinicclBroadcast", size(4), F32, 1))
    assert all(list(x) == [1] * 4 + [2] * 4 for x in on_all("infinicclAllGather", size(4), F32, count=8))
    counts = (ctypes.c_size_t * 2)(4, 4)
    assert all(list(x) == [1] * 4 + [2] * 4 for x in on_all("infinicclAllGatherV", counts, 2, F32, count=8))
    assert all((x == 3).all() for x in on_all("infinicclReduceScatter", size(2), F32, 0, count=2))
    halves = (ctypes.c_size_t * 2)(2, 2)
    assert all((x == 3).all() for x in on_all("infinicclReduceScatterV", halves, 2, F32, 0, count=2))
    assert all(list(x) == [1, 1, 2, 2] for x in on_all("infinicclAllToAll", size(2), F32))
    assert (on_all("infinicclReduce", size(4), F32, 2, 0)[0] == 2).all()
    bad = collectives.infinicclAllGatherV(None, None, counts, 3, F32, ctypes.c_void_p(comms[0]), None)
    assert bad == 3 and b"nranks=3, but the communicator has 2 ranks" in runtime.infiniGetLastError()
    for rank in range(2):
        choose("sim", rank)
        for memory in buffers[rank]:
            check(runtime.infinirtFree(memory))
        check(collectives.infinicclCommDestroy(ctypes.c_void_p(comms[rank])))


class UniqueId(ctypes.Structure):
    _fields_ = [("internal", ctypes.c_char * 128)]


def test_ranks_meet_by_unique_id_send_and_wait() -> None:
    choose("sim")
    identity = UniqueId()
    check(collectives.infinicclGetUniqueId(ctypes.byref(identity)))
    wrong: list[BaseException] = []

    def work(rank: int) -> None:
        try:
            choose("sim", rank)
            comm = ctypes.c_void_p()
            check(collectives.infinicclCommInitRank(ctypes.byref(comm), 2, identity, rank))
            buffer = to_device(np.full(4, 5 * (1 - rank), np.float32))
            function = collectives.infinicclRecv if rank else collectives.infinicclSend
            check(function(buffer, size(4), F32, 1 - rank, comm, None))
            check(collectives.infinicclBarrier(comm, None))
            check(runtime.infinirtDeviceSynchronize())
            assert (to_host(buffer, 4) == 5).all()
            check(runtime.infinirtFree(buffer))
            check(collectives.infinicclCommDestroy(comm))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- one registry ------------------------------------------------------------------------------------------

PATCH = """
#include <registry.h>

static const infini_operator *original;

/* Does what add does, then adds 100 to the first element. */
static infiniStatus_t execute(infini_descriptor d, void *workspace, uint64_t bytes, const infini_slot *args,
                              infinirtStream_t stream) {
  infiniStatus_t status = original->execute(d, workspace, bytes, args, stream);
  ((float *)args[0].tensor->data)[0] += 100;
  return status;
}

int patch(void) {
  static infini_operator mine;
  const infini_registry_api *registry = infini_registry();
  infiniStatus_t status;
  infini_entry *cpu = registry->by_device(INFINI_DEVICE_CPU, &status);
  if (cpu == NULL) return (int)status;
  original = registry->find(cpu, "add");
  mine = *original;
  mine.execute = execute;
  return (int)registry->patch("cpu", "add", &mine);
}

int restore(void) { return (int)infini_registry()->patch("cpu", "add", NULL); }
"""


@pytest.mark.parametrize("first", ["c", "python"])
def test_a_kernel_replaced_in_the_registry_changes_c_and_python(first: str, tmp_path: Any) -> None:
    """Whichever of the two opened the backend."""
    source, library, here = tmp_path / "patch.c", tmp_path / "patch.so", tmp_path
    source.write_text(PATCH)
    sources = ROOT / "capi"
    if not (sources / "registry.h").is_file():
        pytest.skip("an installed infinicore does not carry the registry's header")
    flags = ["-shared", "-fPIC", f"-I{ROOT}/include", f"-I{sources}", f"-L{ROOT}/lib", "-linfinirt"]
    try:
        subprocess.run(["cc", str(source), "-o", str(library), *flags], check=True, cwd=here)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    code = f"""
        import ctypes, sys
        sys.path.insert(0, {str(ROOT.parent)!r})
        runtime = ctypes.CDLL({str(ROOT)!r} + "/lib/libinfinirt.so")
        operators = ctypes.CDLL({str(ROOT)!r} + "/lib/libinfiniop.so")
        if {first == "c"}:
            assert runtime.infinirtInit() == 0
        import infinicore as ic
        if {first == "python"}:
            ic.backends["cpu"].open()
        patches = ctypes.CDLL({str(library)!r}, mode=ctypes.RTLD_LOCAL)

        def by_c():
            handle, tensor, add = (ctypes.c_void_p() for _ in range(3))
            assert operators.infiniopCreateHandle(ctypes.byref(handle)) == 0
            assert operators.infiniopCreateTensorDescriptor(
                ctypes.byref(tensor), ctypes.c_size_t(1), (ctypes.c_size_t * 1)(2), None, 13) == 0
            made = operators.infiniopCreateAddDescriptor(handle, ctypes.byref(add), tensor, tensor, tensor)
            assert made == 0
            a, c = (ctypes.c_float * 2)(1, 2), (ctypes.c_float * 2)()
            assert operators.infiniopAdd(add, None, ctypes.c_size_t(0), c, a, a, None) == 0
            assert operators.infiniopDestroyAddDescriptor(add) == 0
            return list(c)

        def by_python():
            a = ic.from_list([1.0, 2.0], dtype=ic.float32, device="cpu")
            ic.cache_clear()
            return ic.add(a, a).tolist()

        print(by_c(), by_python())
        assert patches.patch() == 0
        print(by_c(), by_python())
        assert patches.restore() == 0
        print(by_c(), by_python())
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"LD_LIBRARY_PATH": f"{ROOT}/lib", "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.splitlines() == [
        "[2.0, 4.0] [2.0, 4.0]",
        "[102.0, 4.0] [102.0, 4.0]",
        "[2.0, 4.0] [2.0, 4.0]",
    ], done.stderr


def test_importing_infinicore_maps_no_library() -> None:
    maps = "open('/proc/self/maps').read()"
    code = f"import infinicore; print([n for n in ('libinfini', 'onednn') if n in {maps}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_error_is_the_threads_and_stays_until_the_next() -> None:
    choose("cpu")
    assert runtime.infinirtMalloc(None, size(8)) == 4
    assert runtime.infiniGetLastError() == b"infinirtMalloc: p_ptr is NULL"
    check(runtime.infinirtDeviceSynchronize())
    assert runtime.infiniGetLastError() == b"infinirtMalloc: p_ptr is NULL"
    with pytest.raises(CError, match=r"no backend has device number 77 \(status 5\)"):
        check(runtime.infinirtSetDevice(77, 0))
