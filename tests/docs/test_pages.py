# The pages that docs/pages.py writes: every operator and every other public name has one with an example that
# runs, and stands in the index; every folder of the tree has one that says what each file is for.
"""Pages rendered from signatures."""

from __future__ import annotations

import doctest
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import infinicore as ic
from infinicore.schema import OPERATORS

ROOT = Path(__file__).parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("infinicore_docs_pages", ROOT / "docs" / "pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pages = load()
ENTRIES = pages.operators()


@pytest.fixture(autouse=True)
def print_options() -> Iterator[None]:
    before = ic.get_printoptions()["precision"]
    ic.set_printoptions(precision=8)
    yield
    ic.set_printoptions(precision=before)


def sessions(name: str) -> str:
    """Return what a page shows as its example: the docstring's own, or the one made from the signature."""
    text = pages.documentation(ENTRIES[name])
    if ">>> " in text:
        return text
    return re.sub(r"^$", "<BLANKLINE>", pages.example_of(name, ENTRIES[name]), flags=re.MULTILINE)


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_the_example_prints_what_the_page_says(name: str) -> None:
    text = sessions(name)
    assert ">>> " in text, f"{name}: no plain call could be made of the signature; write an Examples section"
    test = doctest.DocTestParser().get_doctest(text, {"ic": ic}, name, f"operators/{name}", 0)
    assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_the_page_says_what_the_signature_says(name: str) -> None:
    schema = pages.schema_of(name, ENTRIES[name])
    if schema is None:
        return
    table, errors = pages.slots(schema), "\n".join(pages.checks(schema))
    for parameter in schema.parameters:
        if parameter.index not in schema.call.fixed:
            assert f"``{schema.call.names[parameter.index]}``" in table
    shared = {
        d.name
        for p in schema.tensors
        for d in p.dims
        if sum(d.name in [e.name for e in q.dims] for q in schema.tensors) > 1
    }
    for symbol in shared:
        assert symbol.isdigit() or f"``{symbol}`` differs" in errors
    assert "return" in pages.body_of(schema)


def test_the_index_names_every_operator_once() -> None:
    index = pages.operator_index()
    listed = [name for names in pages.families().values() for name in names]
    assert sorted(listed) == sorted(ENTRIES) and set(OPERATORS) <= set(listed)
    assert all(index.count(f":doc:`{name}`") == 1 for name in listed)


PUBLIC = pages.public()


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_the_example_of_a_public_name_runs(name: str, request: pytest.FixtureRequest) -> None:
    _, text = pages.text_of(PUBLIC[name])
    assert ">>> " in text, f"{name}: write an Examples section"
    if "import torch" in text:
        request.getfixturevalue("torch")
    device = ic.get_device()
    test = doctest.DocTestParser().get_doctest(text, {"ic": ic}, name, f"api/{name}", 0)
    try:
        assert doctest.DocTestRunner().run(test).failed == 0
    finally:
        ic.set_device(device)


@pytest.mark.parametrize("name", pages.MODULES)
def test_the_page_of_a_module_names_what_is_in_it(name: str) -> None:
    module, page = pages.module_named(name), pages.module_names(name, PUBLIC)
    for each in module.__all__:
        assert f":doc:`{each} <" in page or f"``{each}``" in page
    text = pages.documentation(module)
    assert ">>> " in text, f"{name}: write an Examples section"
    device = ic.get_device()
    test = doctest.DocTestParser().get_doctest(text, {}, name, f"api/{name}", 0)
    try:
        assert doctest.DocTestRunner().run(test).failed == 0
    finally:
        ic.set_device(device)


def test_the_index_of_the_api_names_everything_once() -> None:
    index = pages.api_index()
    assert all(index.count(f":doc:`{name}`") == 1 for name in pages.MODULES)
    assert all(index.count(f":doc:`{name}`") == 1 for name in PUBLIC)
    assert all(f"``{error}``" in index for error in ic.errors.__all__)
    for name in ic.__all__:
        entry = getattr(ic, name)
        value = isinstance(entry, (ic.dtype, ModuleType, bool, dict, tuple, type(None)))
        documented = value or any(entry is other for other in (*PUBLIC.values(), *ENTRIES.values()))
        assert documented or issubclass(entry, Exception), name


#: What the first infinicore's documentation has a page for, and what ours has it under.
FIRST = (
    "device dtype Tensor empty zeros ones empty_like from_blob DeviceEvent add matmul mul narrow rearrange "
    "attention nn.Module nn.ModuleList nn.Linear nn.RMSNorm nn.RoPE nn.Embedding nn.Parameter "
    "causal_softmax nn.functional.rms_norm nn.functional.silu swiglu rope nn.functional.random_sample linear "
    "nn.functional.embedding context utils nn nn.functional"
)


@pytest.mark.parametrize("name", FIRST.split())
def test_what_the_first_documentation_had(name: str) -> None:
    assert name in PUBLIC or name in ENTRIES or name in pages.MODULES


def test_every_file_of_a_module_says_what_it_is_for() -> None:
    silent = [path for path in pages.tracked() if not pages.header(ROOT / path)]
    assert all(path.name in ("__init__.py", "__init__.pxd", "setup.py") for path in silent), silent
    index = pages.tree_pages()["index"]
    assert all(f"   {pages.page_name(path.parent)}\n" in index for path in pages.tracked())


def test_the_support_table_is_what_a_report_says() -> None:
    from infinicore.testing import report as kit
    from infinicore.testing.known_failures import KnownFailures
    from infinicore.testing.runner import run_here
    from infinicore.testing.suite import Options

    options = Options("cpu", operators=("add", "random_sample"), tests=("basic",), iterations=1)
    outcomes = run_here(options, KnownFailures())
    (bad,) = [outcome for outcome in outcomes if outcome.id == "operators.add.f16"]
    bad.state, bad.facts = "failed", {}
    made = kit.make(options, outcomes, KnownFailures())
    found = pages.support_pages({"cpu": made})
    assert "hardware: the device itself" in found["index"] and ":doc:`cpu`" in found["index"]
    rows = [row.splitlines() for row in found["cpu"].split("   * - ")[1:]]
    head, add, sample = (
        [cell.strip().removeprefix("- ").strip() for cell in row if cell.strip()] for row in rows
    )
    table = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in (add, sample)}
    assert table[":doc:`/operators/add`"]["f32"] == "●" and table[":doc:`/operators/add`"]["f16"] == "✗"
    sampled = table[":doc:`/operators/random_sample`"]  # by the dtype of the logits, whatever the result's
    assert sampled["f16"] == "●" and sampled["i32"] in ("", "-")
    assert "Tier: **hardware**" in found["cpu"]
    assert "No report is there" in pages.support_pages({})["index"]
