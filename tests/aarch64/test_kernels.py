# The CPU's kernels compiled for aarch64 and run under qemu-user: drawn calls, written to a file, run there,
# and judged here by the same reference and tolerances as everywhere. Part of `nox -s thorough`.
"""Kernels for aarch64."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from infinicore.schema import DTYPES, OPERATORS
from infinicore.testing.conformance import Image, judge, place
from infinicore.testing.strategies import DrawnCall, DrawnTensor, calls, itemsize

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "infinicore-core" / "src" / "infinicore"
COMPILER = shutil.which("aarch64-linux-gnu-g++")
EMULATOR = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
EXAMPLES = 25
EXOTIC = {"byte", "bool", "f8", "c16", "c32", "c64", "c128"}
NOT_SUPPORTED = (2, 10)  # NOT_IMPLEMENTED, BAD_TENSOR_DTYPE

pytestmark = [
    pytest.mark.skipif(not os.environ.get("INFINICORE_TEST_THOROUGH"), reason="part of nox -s thorough"),
    pytest.mark.skipif(not COMPILER, reason="aarch64-linux-gnu-g++ is not installed"),
    pytest.mark.skipif(not EMULATOR, reason="qemu-aarch64 is not installed"),
]


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the backend and the runner for aarch64 into one static program."""
    from infinicore.schema import write_headers

    folder = tmp_path_factory.mktemp("aarch64")
    write_headers(folder)
    flags = ["-std=c++17", "-O2", "-fno-math-errno", "-fno-trapping-math", "-pthread", "-DNDEBUG"]
    flags += [f"-I{folder}", f"-I{PACKAGE / 'include'}", f"-I{PACKAGE / 'cpu'}"]
    flags += ["-DINFINI_CPU_ISAS=X(generic)", "-DINFINI_ISA=generic", '-DINFINI_VERSION="test"']
    cache = [ccache] if (ccache := shutil.which("ccache")) else []
    sources = [Path(__file__).with_name("runner.cpp"), *(PACKAGE / "cpu" / "kernels").glob("*.cpp")]
    sources += [path for path in (PACKAGE / "cpu").glob("*.cpp") if not path.name.startswith("onednn")]

    def compiled(source: Path) -> Path:
        target = folder / f"{source.parent.name}-{source.stem}.o"
        command = [*cache, COMPILER, *flags, "-c", source, "-o", target]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, sources))
    program = folder / "runner"
    subprocess.run([COMPILER, "-static", "-pthread", *objects, "-o", program, "-ldl"], check=True)
    return program


class ReturnedTensor(Image):
    """A tensor whose memory comes back in the runner's results."""

    returned: bytes

    def memory(self) -> np.ndarray:
        return np.frombuffer(self.returned, np.uint8).view(self.before.dtype).copy()


def packed(image: ReturnedTensor, shape: tuple[int, ...]) -> bytes:
    """Describe a tensor as the runner reads it; `shape` is what it broadcasts to."""
    drawn, layout = image.drawn, image.drawn.layout
    lacking = len(shape) - len(layout.shape)
    own = zip(layout.shape, layout.strides, shape[lacking:], strict=True)
    strides = (0,) * lacking + tuple(0 if size != full else stride for size, stride, full in own)
    text = struct.pack("<ii", DTYPES[drawn.dtype][0], len(shape)) + struct.pack(
        f"<{2 * len(shape)}q", *shape, *strides
    )
    content = image.before.tobytes()
    return text + struct.pack("<QQ", layout.offset * itemsize(drawn.dtype), len(content)) + content


def written(call: DrawnCall, placed: list[Any]) -> bytes:
    """Describe a call as the runner reads it."""
    resolved = call.resolved()
    name = call.schema.name.encode()
    text = struct.pack("<I", len(name)) + name + struct.pack("<I", len(call.slots))
    for p in call.schema.parameters:
        item, spec, value = placed[p.index], resolved.specs[p.index], resolved.values[p.index]
        if p.index in call.alias:
            text += b"s" + struct.pack("<I", call.alias[p.index])
        elif p.kind == "tensor":
            text += b"0" if item is None else b"t" + packed(item, spec.shape)
        elif p.kind == "tensors":
            text += (
                b"l"
                + struct.pack("<I", len(item))
                + b"".join(packed(part, part.drawn.layout.shape) for part in item)
            )
        elif p.kind == "ints":
            text += b"i" + struct.pack(f"<I{len(value)}q", len(value), *value)
        elif p.kind == "float":
            text += b"f" + struct.pack("<d", value)
        else:
            text += b"n" + struct.pack("<q", DTYPES[value][0] if p.kind == "dtype" else int(value))
    return text


def drawn_calls(name: str) -> list[DrawnCall]:
    found: list[DrawnCall] = []

    @seed(1)
    @settings(max_examples=EXAMPLES, database=None, deadline=None)
    @given(data=st.data())
    def collect(data: st.DataObject) -> None:
        call = data.draw(calls(OPERATORS[name]))
        call.give_out = True
        # The file has a tensor per slot, also where one stands in two.
        call.slots = [replace(value) if isinstance(value, DrawnTensor) else value for value in call.slots]
        found.append(call)

    collect()
    return found


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_result_is_the_reference(name: str, runner: Path, tmp_path: Path) -> None:
    batch = drawn_calls(name)
    images: list[list[ReturnedTensor]] = []
    placed = []
    text = struct.pack("<I", len(batch))
    for call in batch:
        images.append([])

        def make(drawn: DrawnTensor) -> ReturnedTensor:
            images[-1].append(ReturnedTensor(drawn))
            return images[-1][-1]

        slots = place(call, make)
        # What is another slot's tensor is not in the file.
        kept = {id(part) for item in slots for part in (item if isinstance(item, tuple) else (item,))}
        images[-1] = [image for image in images[-1] if id(image) in kept]
        placed.append(slots)
        text += written(call, slots)
    (tmp_path / "calls").write_bytes(text)
    command = [EMULATOR, runner, tmp_path / "calls", tmp_path / "results"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    results, judged = (tmp_path / "results").open("rb"), 0
    for call, slots, memories in zip(batch, placed, images, strict=True):
        status, length = struct.unpack("<iI", results.read(8))
        message = results.read(length).decode()
        for image in memories:
            image.returned = results.read(image.before.nbytes)
        dtypes = {image.drawn.dtype for image in memories}
        if status in NOT_SUPPORTED and dtypes & EXOTIC:
            continue
        assert status == 0, f"{call}: {message}"
        got = {p.index: slots[p.index].values() for p in call.schema.outputs}
        problems = judge(call, slots, got)
        assert not problems, f"{call}:\n  " + "\n  ".join(problems)
        judged += 1
    assert judged
