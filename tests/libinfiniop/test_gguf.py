# Operator cases in GGUF files: what is written is what is read, the format is the documented one, and the
# command that runs them through the C API passes right cases and fails wrong ones.
"""infinicore.testing.gguf and the command infiniop-test."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")

from infinicore.schema import OPERATORS  # noqa: E402
from infinicore.testing import gguf as files  # noqa: E402
from infinicore.testing.gguf import Case, CaseTensor, read, write  # noqa: E402
from infinicore.testing.gguf.__main__ import main as command  # noqa: E402
from infinicore.testing.gguf.generate import generate  # noqa: E402
from infinicore.testing.gguf.run import main as infiniop_test  # noqa: E402


def tensor(values, strides=None, dtype="f32", shape=None):
    values = np.asarray(values, files.NUMPY[dtype])
    shape = values.shape if shape is None else shape
    return CaseTensor(dtype, shape, files.row_major(shape) if strides is None else strides, values)


def empty(shape, strides=None, dtype="f32"):
    return CaseTensor(dtype, shape, files.row_major(shape) if strides is None else strides, None)


def add_case(expected=((4, 6), (5, 7))):
    """Add a padded matrix and a repeated row."""
    operands = {
        "input": tensor([[1, 2], [2, 3]], (5, 1)),
        "other": tensor([[3, 4]], (0, 1), shape=(2, 2)),
        "out": empty((2, 2)),
    }
    return Case(OPERATORS["add"], operands, {}, {"out": np.array(expected, np.float64)})


def copy_case(values, dtype):
    """Copy values."""
    operands = {"dst": empty(values.shape, dtype=dtype), "src": tensor(values, dtype=dtype)}
    wide = {"c": np.complex128, "i": np.int64}.get(values.dtype.kind, np.float64)
    return Case(OPERATORS["rearrange"], operands, {}, {"dst": values.astype(wide)})


# ---- the format --------------------------------------------------------------------------------------------


def contents(path):
    reader = gguf.GGUFReader(path)
    fields = {}
    for name, entry in reader.fields.items():
        values = [entry.parts[i].tolist() for i in entry.data]
        text = bytes(values[0]).decode() if entry.types[0].name == "STRING" else [v for [v] in values]
        fields[name] = (entry.types[-1].name, text)
    return fields, {t.name: t for t in reader.tensors}


def test_format(tmp_path):
    write(tmp_path / "add.gguf", [add_case()])
    fields, tensors = contents(tmp_path / "add.gguf")
    assert fields["GGUF.version"] == ("UINT32", [3])
    assert fields["general.architecture"] == ("STRING", "infiniop-test")
    assert fields["test_count"] == ("UINT64", [1])
    assert fields["test.0.op_name"] == ("STRING", "add")
    assert fields["test.0.a.strides"] == ("INT32", [1, 5])  # innermost first
    assert "test.0.a.shape" not in fields
    assert fields["test.0.b.strides"] == ("INT32", [1, 0])
    assert fields["test.0.b.shape"] == ("INT32", [2, 2])
    assert fields["test.0.c.shape"] == ("INT32", [2, 2])
    assert fields["test.0.c.strides"] == ("INT32", [1, 2])
    assert tensors["test.0.b"].data.tolist() == [[3, 4]]  # no element twice
    assert tensors["test.0.c"].n_elements == 0
    assert tensors["test.0.ans"].tensor_type.name == "F64"
    assert tensors["test.0.ans"].data.tolist() == [[4, 6], [5, 7]]


def test_attributes(tmp_path):
    one = np.ones((1, 1))
    operands = {
        "c": tensor(one, dtype="bf16"),
        "a": tensor(one, dtype="bf16"),
        "b": tensor(one, dtype="bf16"),
    }
    gemm = Case(OPERATORS["gemm"], operands, {"alpha": 0.5, "beta": 2.0}, {"c": np.array([[2.5]])})
    x = tensor(np.zeros((1, 1, 3)))
    numbers = {"pads": (1,), "strides": (2,), "dilations": (1,)}
    conv = Case(
        OPERATORS["conv"],
        {"y": empty((1, 1, 2)), "x": x, "w": tensor(np.zeros((1, 1, 2)))},
        numbers,
        {"y": np.zeros((1, 1, 2))},
    )
    write(tmp_path / "both.gguf", [gemm, conv])
    fields, tensors = contents(tmp_path / "both.gguf")
    assert fields["test.0.alpha"] == ("FLOAT32", [0.5]) and fields["test.0.beta"] == ("FLOAT32", [2.0])
    assert tensors["test.0.a"].tensor_type.name == "BF16"
    assert fields["test.1.pads"] == ("INT32", [1]) and fields["test.1.strides"] == ("INT32", [2])
    assert "test.1.bias" not in tensors
    first, second = read(tmp_path / "both.gguf")
    assert first.values == gemm.values and second.values == numbers
    assert set(second.operands) == {"y", "x", "w"}
    assert infiniop_test([str(tmp_path / "both.gguf"), "--cpu", "--warmup", "0", "--run", "1"]) == 0


@pytest.mark.parametrize("dtype", sorted(files.NUMPY))
@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (2, 1, 1, 2, 3)])
def test_every_dtype_and_rank_comes_back(dtype, shape, tmp_path):
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(files.NUMPY[dtype])
    case = copy_case(values, dtype)
    write(tmp_path / "x.gguf", [case])
    (back,) = read(tmp_path / "x.gguf")
    assert str(back) == str(case)
    assert back.operands["src"].values.tobytes() == values.tobytes()
    assert np.array_equal(back.expected["dst"], case.expected["dst"])
    assert back.operands["dst"].shape == shape


def test_large_integers_stay_exact(tmp_path):
    values = np.array([2**62 + 1, -5])
    case = copy_case(values, "i64")
    write(tmp_path / "x.gguf", [case])
    assert read(tmp_path / "x.gguf")[0].expected["dst"].tolist() == values.tolist()


def test_layout_of_negative_strides():
    layout = tensor([1, 2, 3], (-2,)).layout
    assert (layout.offset, layout.size) == (4, 5)
    storage = np.zeros(5)
    layout.of(storage)[...] = [1, 2, 3]
    assert storage.tolist() == [3, 0, 2, 0, 1]


def test_files_that_are_wrong(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "llama.gguf", "llama")
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    with pytest.raises(ValueError, match="holds no operator cases"):
        read(tmp_path / "llama.gguf")
    case = add_case()
    del case.operands["other"]
    write(tmp_path / "short.gguf", [case])
    with pytest.raises(ValueError, match=r"has no tensor test\.0\.b"):
        read(tmp_path / "short.gguf")


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install infinicore-core\[gguf\]"):
        files.library()


# ---- drawing and running -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_cases_of_every_operator_pass(name, tmp_path, capsys):
    cases = generate(name, 2)
    assert len(cases) == 2
    assert any(part.repeats for case in cases for part in case.parts())
    path = tmp_path / f"{name}.gguf"
    write(path, cases)
    assert [*map(str, read(path))] == [*map(str, cases)]
    status = infiniop_test([str(path), "--cpu", "--warmup", "1", "--run", "1"])
    text = capsys.readouterr().out
    assert status == 0, text
    assert f"{len(cases)} passed, 0 failed" in text and text.count("PASSED") == len(cases)


@pytest.mark.parametrize("name", ["add", "gemm"])
def test_cases_pass_on_a_device_of_its_own_memory(name, sim, tmp_path, capsys):
    """Memory of sim faults when the host touches it."""
    import infinicore as ic

    ic.empty((1,), dtype=ic.float32, device=sim)  # the C API sees what Python has opened
    path = tmp_path / f"{name}.gguf"
    write(
        path,
        [
            case
            for case in generate(name, 20)
            if case.operands["c" if name == "gemm" else "out"].dtype == "f32"
        ],
    )
    assert infiniop_test([str(path), "--device", "sim:0", "--warmup", "1", "--run", "2"]) == 0
    assert ", 0 failed" in capsys.readouterr().out


def test_same_seed_same_cases():
    assert [*map(str, generate("gemm", 5, seed=3))] == [*map(str, generate("gemm", 5, seed=3))]
    assert [*map(str, generate("gemm", 5, seed=3))] != [*map(str, generate("gemm", 5, seed=4))]


def test_chosen_dimensions():
    for case in generate("gemm", 3, dimensions=[6, 9]):
        assert {size for part in case.parts() for size in part.shape[-2:]} <= {6, 9}


def test_what_cannot_be_run_is_said(tmp_path, capsys):
    write(tmp_path / "add.gguf", [add_case()])
    for arguments, message in [
        (["nosuch.gguf"], "nosuch.gguf"),
        ([str(tmp_path / "add.gguf"), "--cpu:99"], "Error code"),
        ([str(tmp_path / "add.gguf"), "--device", "nosuch"], "nosuch"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            infiniop_test(arguments)
        assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_wrong_result_fails(tmp_path, capsys):
    path = str(tmp_path / "add.gguf")
    write(path, [add_case(), add_case(((4, 6), (5, 7.5)))])
    assert infiniop_test([path, "--run", "1"]) == 1
    text = capsys.readouterr().out
    assert "test 0: PASSED" in text and "test 1: FAILED" in text and "1 passed, 1 failed" in text
    assert "1 of 4 elements are wrong; first at [1, 1]" in text
    assert infiniop_test([path, "--run", "1", "--rtol", "0.1"]) == 0
    assert infiniop_test([path, "--run", "1", "--atol", "0.5"]) == 0
    assert infiniop_test([path, "--run", "1", "--atol", "0.4"]) == 1


def test_case_that_cannot_run_fails_alone(tmp_path, capsys):
    wrong = add_case()
    wrong.operands["out"] = empty((2, 2), dtype="f16")
    write(tmp_path / "add.gguf", [wrong, add_case()])
    assert infiniop_test([str(tmp_path / "add.gguf"), "--run", "1"]) == 1
    text = capsys.readouterr().out
    assert "test 0: FAILED" in text and "test 1: PASSED" in text


def test_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(["generate", "relu", "add", "--cases", "2"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["add.gguf", "relu.gguf"]
    assert command(["generate", "relu", "add", "--cases", "2", "-o", "both.gguf"]) == 0
    assert [case.schema.name for case in read("both.gguf")] == ["relu", "relu", "add", "add"]
    assert command(["run", "both.gguf", "--cpu:0", "--warmup", "0", "--run", "0"]) == 0
    assert "4 passed, 0 failed" in capsys.readouterr().out
    for arguments in (["generate"], ["generate", "nosuch"]):
        with pytest.raises(SystemExit):
            command(arguments)
    assert "no such operator: nosuch" in capsys.readouterr().err


def test_as_a_program(tmp_path):
    path = tmp_path / "gemm.gguf"
    module = [sys.executable, "-m", "infinicore.testing.gguf"]
    done = subprocess.run(
        [*module, "generate", "gemm", "--cases", "3", "-o", path], capture_output=True, text=True
    )
    assert done.returncode == 0 and "3 cases of 1 operator\n" in done.stdout, done.stderr
    run = [sys.executable, "-m", "infinicore.testing.gguf.run", path, "--cpu", "--warmup", "2", "--run", "3"]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0 and "3 passed, 0 failed" in done.stdout, done.stderr
