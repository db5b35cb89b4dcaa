# infinicore-core/stubs.py writes the type stubs of the operators from their signatures; they are checked in.
# Here: that they are what it would write now. The other stubs are the matter of stubtest (nox -s types).
"""Type stubs."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import infinicore

CORE = Path(__file__).parents[2] / "infinicore-core"
SOURCE = CORE / "src" / "infinicore"
pytestmark = pytest.mark.skipif(not SOURCE.is_dir(), reason="the sources are not beside the tests")


@pytest.fixture(scope="module")
def stubs():
    spec = importlib.util.spec_from_file_location("stubs", CORE / "stubs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_operators_stubs_are_current(stubs):
    advice = "run infinicore-core/stubs.py"
    assert (SOURCE / "ops" / "__init__.pyi").read_text() == stubs.ops_stub(), advice
    text = (SOURCE / "__init__.pyi").read_text()
    assert text == stubs.package_stub(text), advice


def test_a_changed_signature_changes_the_stub(stubs):
    schema = infinicore.schema.OPERATORS["softmax"]
    before = "def softmax(input: Tensor, axis: int = -1, *, out: Tensor | None = None) -> Tensor: ..."
    after = "def softmax(x: Tensor, *, axis: int = 1, out: Tensor | None = None) -> Tensor: ..."
    changed = schema.spelled("softmax(x, *, axis=1, out=None)", "", {})
    assert stubs.operator(schema) == f"@_operator\n{before}\n"
    assert stubs.operator(changed) == f"@_operator\n{after}\n"
    text = (SOURCE / "__init__.pyi").read_text()
    shorter = text.replace("from infinicore.ops import silu as silu\n", "")
    assert shorter != text == stubs.package_stub(shorter)


def test_an_optional_tensor_that_must_be_named_may_be_none(stubs):
    stub = stubs.operator(infinicore.schema.OPERATORS["mha_varlen"])
    assert "\n    block_table: Tensor | None,\n" in stub and "\n    cum_seqlens_k: Tensor,\n" in stub


def test_the_stubs_need_nothing_built(stubs, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(CORE)!r}); import stubs; print(stubs.ops_stub(), end='')"
    # Isolated from the installed package, as `python stubs.py` is in a fresh checkout.
    bare = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, env={}
    )
    assert bare.stdout == stubs.ops_stub()


def test_every_module_that_is_compiled_has_a_stub():
    missing = [
        path.name
        for path in SOURCE.glob("*.pyx")
        if path.stem != "capsule" and not path.with_suffix(".pyi").is_file()
    ]
    assert not missing
    assert (SOURCE / "py.typed").is_file()
