# Descriptors, handles and processes from birth to death: twice, in the wrong order, after a fork, and at the
# end of the interpreter. Operators are compared with what the device itself gave before.
"""Lives of descriptors, handles and processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import infinicore as ic
from infinicore.schema import DTYPES
from infinicore.testing.suite import Skip, Target, check, check_each_operator

if TYPE_CHECKING:
    from infinicore.testing.conformance import Launch
    from infinicore.testing.strategies import DrawnCall

__all__ = ["fresh_process", "same_as_before", "varied"]

PATIENCE = 60  # seconds that another process may take


def varied(call: DrawnCall, number: int) -> DrawnCall:
    """Return a call with the same layouts and other numbers: those of each float input, moved on."""
    from dataclasses import replace

    from infinicore.testing.strategies import DrawnTensor

    def moved(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(moved, value))
        if not isinstance(value, DrawnTensor) or value.values is None or value.dtype not in _FLOATS:
            return value
        # Elements that share memory hold one value.
        own = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in value.layout.strides)
        rolled = np.roll(value.values[own].reshape(-1), number).reshape(value.values[own].shape)
        return replace(value, values=np.broadcast_to(rolled, value.layout.shape))

    return replace(call, slots=[moved(value) for value in call.slots])


_FLOATS = ("f16", "bf16", "f32", "f64")


def same_as_before(launch: Launch, before: dict[int, np.ndarray], when: str) -> None:
    """Compare results with those that the device gave before, within the operator's tolerance.

    Whether those were right is for another check to say: a wrong operator is one finding, not one per check.
    """
    from infinicore.testing.strategies import PARTS
    from infinicore.testing.tolerance import mismatches, tolerance

    schema = launch.call.schema
    for p in schema.outputs:
        got, want, dtype = launch.values()[p.index], before[p.index], launch.call.slots[p.index].dtype
        if want.dtype.kind not in "biu":
            want = want.astype(np.complex128 if want.dtype.kind == "c" else np.float64)
        wrong = mismatches(got, want, tolerance(schema.name, DTYPES[dtype][1]), PARTS.get(dtype, dtype))
        assert not wrong.any(), (
            f"{launch.call}: {p.name} {when} differs from the same call made alone in {int(wrong.sum())} of "
            f"{wrong.size} elements"
        )


@check_each_operator("basic", "lifecycle")
def descriptors(target: Target, call: DrawnCall) -> None:
    """Two descriptors of one call are alike; one works when the other is gone, and with more workspace."""
    from infinicore.testing.conformance import Launch

    alone = Launch(call, target.device)
    alone()
    before = alone.values()
    first, second = Launch(call, target.device).describe(), Launch(call, target.device).describe()
    assert first.workspace_bytes == second.workspace_bytes, (
        f"{call}: workspace_bytes is {first.workspace_bytes} of one descriptor, "
        f"{second.workspace_bytes} of another"
    )
    size = second.workspace_bytes
    del first
    launch = Launch(call, target.device)
    launch(second)
    same_as_before(launch, before, "of a descriptor made twice")
    if size == 0:
        return
    launch = Launch(call, target.device)
    larger = ic.empty((size + 256,), dtype=ic.uint8, device=target.device)
    launch(lambda *a, **k: second(*a, **k, workspace=larger))
    same_as_before(launch, before, "with a larger workspace")
    smaller = ic.empty((max(size - 1, 0),), dtype=ic.uint8, device=target.device)
    try:
        launch(lambda *a, **k: second(*a, **k, workspace=smaller))
    except ic.Error as error:
        assert str(size) in str(error), (
            f"{call}: a workspace too small raises what does not say {size}: {error}"
        )
    else:
        raise AssertionError(f"{call}: a workspace of {size - 1} bytes is taken, {size} are needed")


@check("basic", "lifecycle")
def handles(target: Target) -> None:
    """Streams and events may go in any order, with work in progress."""
    array = np.arange(1 << 18, dtype=np.float32)
    for _ in range(target.options.iterations):
        stream = ic.Stream(target.device)
        with ic.stream(stream):
            memory = ic.from_numpy(array).to(target.device)
            copy = ic.empty_like(memory)
            copy.copy_(memory)
        event = stream.record_event()
        event.synchronize()
        del stream, memory
        assert (copy.to("cpu").numpy() == array).all(), "a copy changed when its stream was destroyed"
        del event


def fresh_process(target: Target, code: str) -> subprocess.CompletedProcess[str]:
    """Run a program in another process, in which the backend is offered too."""
    environment = dict(os.environ)
    if target.name in ("sim", "sim2"):
        environment["INFINICORE_BACKENDS"] = target.name
    paths = [path for path in sys.path if path]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)]
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"a process of its own did not end within {PATIENCE} s:\n{code}") from None


@check("basic", "lifecycle")
def exit_with_live_objects(target: Target) -> None:
    """A process that ends while tensors, streams, events and graphs live ends well."""
    done = fresh_process(
        target,
        f"""
        import infinicore as ic
        keep = [ic.empty((1000,), dtype=ic.float32, device="{target.device}")]
        stream = ic.Stream("{target.device}")
        event = stream.record_event()
        with ic.stream(stream):
            keep.append(ic.from_list([1.0, 2.0]).to("{target.device}"))
        print("alive")
        """,
    )
    assert done.returncode == 0, f"it ended with {done.returncode}: {done.stderr[-500:]}"
    assert done.stdout.strip() == "alive" and not done.stderr.strip(), f"it said: {done.stderr[-500:]}"


@check("basic", "lifecycle")
def fork_before_use(target: Target) -> None:
    """A process that forks before it uses the device, uses it in the child."""
    done = fresh_process(
        target,
        f"""
        import os
        import infinicore as ic
        child = os.fork()
        if child == 0:
            content = ic.from_list([1.0, 2.0]).to("{target.device}").to("cpu").tolist()
            os._exit(0 if content == [1.0, 2.0] else 9)
        raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
    )
    assert done.returncode == 0, f"the child ended with {done.returncode}: {done.stderr[-500:]}"


@check("exception", "lifecycle")
def fork_after_use(target: Target) -> None:
    """In the child of a process that used the device, it works or says why not; nothing hangs or dies."""
    ic.empty((1,), dtype=ic.float32, device=target.device)
    child = os.fork()
    if child == 0:
        code = 8
        try:
            ic.from_list([1.0, 2.0]).to(target.device).to("cpu")
            code = 0
        except ic.Error:
            code = 0
        finally:
            os._exit(code)
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            assert code == 0, f"the child {_ending(code)}"
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"the child did not end within {PATIENCE} s")


def _ending(code: int) -> str:
    return f"died of {signal.Signals(-code).name}" if code < 0 else "raised what is no infinicore.Error"


@check("basic", "lifecycle")
def second_device(target: Target) -> None:
    """Every device of the backend keeps its own memory."""
    if target.backend.device_count < 2:
        raise Skip("there is one device")
    arrays = [np.full(1000, index, np.float32) for index in range(target.backend.device_count)]
    tensors = [ic.from_numpy(a).to(f"{target.name}:{index}") for index, a in enumerate(arrays)]
    for index, tensor in enumerate(tensors):
        assert tensor.device.index == index, f"a tensor of device {index} says {tensor.device}"
        assert (tensor.to("cpu").numpy() == index).all(), f"device {index} has another's memory"
