# The public C functions, rendered from the operators' signatures, are those that existing programs call:
# compared by type, order and parameter name with data/c_api.txt. Also the rules for what a C form leaves out.
# ruff: noqa: F722 ("F n" is a shape, not a name)
"""The C forms of operators."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import infinicore
import infinicore.ops
from infinicore.cforms import CForm
from infinicore.schema import OPERATORS, C, In, Out, Schema, Static, Tensor, TensorList, c_prototypes

HARD = {  # the operators that break schemas
    "add", "gemm", "conv", "random_sample", "random_sample_batch", "topkrouter", "paged_attention",
    "layer_norm", "rearrange", "add_rms_norm", "sum", "attention", "rope",
}  # fmt: skip


def read_golden():
    """Operator -> its prototypes."""
    golden, current = {}, None
    for line in (Path(__file__).parent / "data" / "c_api.txt").read_text().splitlines():
        if re.fullmatch(r"\w+:", line):
            current = golden.setdefault(line[:-1], [])
        elif line and not line.startswith("#"):
            current.append(line)
    return golden


GOLDEN = read_golden()


def parse(prototype):
    """``(result, function, [(type, name), ...])``, with the spellings that C does not tell apart made one."""
    result, function, inside = re.fullmatch(r"(\w+) (\w+)\((.*)\);", prototype).groups()
    arguments = []
    for text in inside.split(", "):
        type, name = re.fullmatch(r"(.*?[ *])(\w+)", text).groups()
        type = re.sub(r"^(\w+) const \*", r"const \1 *", type).replace(" ", "")
        if "*" not in type:
            type = type.removeprefix("const")  # of a value: no part of the function's type
        arguments.append((type, name))
    return result, function, arguments


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_prototypes_are_those_of_the_c_api(name):
    rendered = {parse(p)[1]: parse(p) for p in c_prototypes(name)}
    assert rendered == {parse(p)[1]: parse(p) for p in GOLDEN[name]}


def test_the_hard_operators_are_compared():
    assert set(GOLDEN) >= HARD
    assert set(OPERATORS) >= set(GOLDEN)


def test_parse_sees_what_matters():
    a = parse("infiniStatus_t f(void const *a, const float b);")
    assert a == parse("infiniStatus_t f(const void *a, float b);")
    assert a != parse("infiniStatus_t f(void *a, float b);")
    assert a != parse("infiniStatus_t f(const void *a, float c);")
    assert a != parse("infiniStatus_t f(const float *a, float b);")


def test_all_prototypes_compile(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    prototypes = [p for name in sorted(OPERATORS) for p in c_prototypes(name)]
    opaque = sorted(set(re.findall(r"infiniop\w+_t", " ".join(prototypes))))
    lines = ["#include <stdbool.h>", "#include <infinicore.h>"]
    lines += [f"typedef struct {name}_ *{name};" for name in opaque]
    source = tmp_path / "prototypes.c"
    source.write_text("\n".join(lines + prototypes) + "\n")
    include = Path(infinicore.__file__).parent / "include"
    command = [
        compiler,
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{include}",
        "-fsyntax-only",
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- where each slot gets its content ----------------------------------------------------------------------


def names(parameters):
    return [p.name for p in parameters]


def test_deferred_tensors():
    assert names(CForm(OPERATORS["topkrouter"]).deferred) == ["values", "indices"]
    batch = CForm(OPERATORS["random_sample_batch"])
    assert names(batch.deferred) == ["random_val", "topp", "topk", "temperature"]
    assert names(CForm(OPERATORS["gemm"]).deferred) == []


def test_values_of_create_are_stored():
    assert names(CForm(OPERATORS["attention"]).stored) == ["pos"]
    assert names(CForm(OPERATORS["conv"]).stored) == ["pads", "strides", "dilations"]
    assert names(CForm(OPERATORS["gemm"]).stored) == []


def test_values_given_twice():
    form = CForm(OPERATORS["sum"])
    assert names(form.twice) == ["dim", "keepdim"]
    assert names(form.stored) == []


def test_counts_and_dimensions_stand_for_no_slot():
    n = CForm(OPERATORS["conv"]).create[-1]
    assert (n.type, n.name, n.slot, names(n.count_of)) == (
        "size_t",
        "n",
        None,
        ["pads", "strides", "dilations"],
    )
    batch_size = CForm(OPERATORS["random_sample_batch"]).execute[-1]
    assert (batch_size.name, batch_size.slot, batch_size.dimension) == ("batch_size", None, "b")


def test_form_that_shares_a_descriptor():
    create, execute = c_prototypes("random_sample_batch")
    assert "infiniopRandomSampleDescriptor_t *desc_ptr" in create
    assert execute.startswith(
        "infiniStatus_t infiniopRandomSampleBatch(infiniopRandomSampleDescriptor_t desc,"
    )


@pytest.mark.parametrize("name", ["rearrange", "embedding"])
def test_form_without_workspace(name):
    text = "\n".join(c_prototypes(name))
    assert "orkspace" not in text
    assert text.count("infiniStatus_t") == 3


def test_the_rule_without_a_spelling():
    """Create takes tensors and static values, execute takes tensors and the rest; a list brings its count."""

    def two_words(
        out: Out[Tensor, "F n"],
        parts: In[TensorList, "F n"],
        *,
        size: Static[int],
        sizes: Static[tuple[int, ...]],
        scale: float,
    ):
        pass

    create, _, execute, _ = CForm(Schema(two_words)).prototypes()
    assert create == (
        "infiniStatus_t infiniopCreateTwoWordsDescriptor(infiniopHandle_t handle, "
        "infiniopTwoWordsDescriptor_t *desc_ptr, infiniopTensorDescriptor_t out_desc, "
        "const infiniopTensorDescriptor_t *parts_desc, size_t parts_count, int size, "
        "const int64_t *sizes, size_t sizes_count);"
    )
    assert execute == (
        "infiniStatus_t infiniopTwoWords(infiniopTwoWordsDescriptor_t desc, void *workspace, "
        "size_t workspace_size, void *out, const void *const *parts, size_t parts_count, float scale, "
        "void *stream);"
    )


@pytest.mark.parametrize(
    ("create", "execute", "message"),
    [
        ("x", "x, float scale", "scaled: the C form's execute lacks tensor out"),
        (
            "out, x",
            "out, x, float scale, int axis",
            "scaled: axis is static, but the C form gives it at execute",
        ),
        ("out, x, int axis", "out, x", "scaled: the C form gives no scale, which has no default"),
        ("out, y, int axis", "out, x, float scale", "scaled: the C form's 'y' names no slot"),
    ],
)
def test_impossible_forms(create, execute, message):
    def scaled(out: Out[Tensor, "F n"], x: In[Tensor, "F n"], *, axis: Static[int], scale: float):
        pass

    with pytest.raises(TypeError, match=re.escape(message)):
        CForm(Schema(scaled, c=C("Scaled", create, execute)))
