# The modules of core depend on each other only downward; this reads their top-level imports and says which do
# not. An import inside a function is a late look-up, which does not count: the layer below loads without it.
"""Dependency direction."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import infinicore

SOURCE = Path(__file__).parents[2] / "infinicore-core" / "src" / "infinicore"

# From the ground up. A module may import those of its own line and of the lines above it.
LAYERS = [
    ["errors", "abi", "registry", "toolkit", "build", "capsule", "cpu"],
    ["schema", "arguments", "discovery", "_status", "_fallback"],
    ["unify", "cforms", "capi", "ops", "loading", "_dtype"],
    ["_backend"],
    ["_device"],
    ["_storage", "context"],
    ["_stream", "_descriptor"],
    ["_graph"],
    ["_tensor"],
    ["_dlpack", "_geometry", "_communicator"],
    ["utils", "interop", "printing", "creation", "graph"],
    ["_dispatch"],
    ["__init__", "report"],
    ["nn", "distributed", "_mpi"],
    ["__main__", "lib", "testing", "new"],
]
# The same inside a package of several storeys.
INSIDE = {
    "nn": [
        ["parameter", "functional"],
        ["modules.module"],
        ["modules.container", "modules.conv", "modules.embedding", "modules.linear"],
        ["modules.normalization", "modules.rope"],
        ["modules.transformer"],
        ["modules"],
        [""],
    ]
}


def ranks(layers):
    return {name: rank for rank, names in enumerate(layers) for name in names}


RANK = ranks(LAYERS)
IMPORT = re.compile(
    r"^(?:from|c?import) infinicore(?:\.(\w+))?[\w.]*(?: c?import (\(?[\w, ]*))?", re.MULTILINE
)


def imports(text):
    """The modules of core that a source imports at its top level."""
    for match in IMPORT.finditer(text):
        if match.group(1):
            yield match.group(1)
        elif match.group(2):  # `from infinicore import a, b`
            yield from (name for name in re.findall(r"\w+", match.group(2)) if name in RANK)


def sources():
    for path in sorted(SOURCE.rglob("*")):
        if path.suffix in (".py", ".pyx", ".pxd"):
            parts = path.relative_to(SOURCE).with_suffix("").parts
            yield path, parts[0]


@pytest.mark.skipif(not SOURCE.is_dir(), reason="the sources are not beside the tests")
@pytest.mark.parametrize(
    ("path", "module"), [pytest.param(*s, id=str(s[0].relative_to(SOURCE))) for s in sources()]
)
def test_imports_point_downward(path, module):
    assert module in RANK, f"{path.name} belongs to no layer: add {module} to LAYERS"
    for imported in imports(path.read_text()):
        assert RANK[imported] <= RANK[module], f"{path.name} imports {imported}, which lies above it"


def inner_imports(text, package):
    """The modules of one package that a source imports at its top level, as names within the package."""
    known, root = ranks(INSIDE[package]), f"infinicore.{package}"
    for statement in ast.parse(text).body:
        source = getattr(statement, "module", None) or ""
        if isinstance(statement, ast.ImportFrom) and f"{source}.".startswith(f"{root}."):
            within = source[len(root) + 1 :]
            for alias in statement.names:
                inner = f"{within}.{alias.name}".lstrip(".")
                yield inner if inner in known else within


def inner_sources():
    for package in INSIDE:
        for path in sorted((SOURCE / package).rglob("*.py")):
            parts = path.relative_to(SOURCE / package).with_suffix("").parts
            yield path, package, ".".join(part for part in parts if part != "__init__")


@pytest.mark.skipif(not SOURCE.is_dir(), reason="the sources are not beside the tests")
@pytest.mark.parametrize(
    ("path", "package", "module"),
    [pytest.param(*s, id=str(s[0].relative_to(SOURCE))) for s in inner_sources()],
)
def test_imports_inside_a_package_point_downward(path, package, module):
    rank = ranks(INSIDE[package])
    assert module in rank, f"{path.name} belongs to no layer of {package}: add {module!r} to INSIDE"
    for imported in inner_imports(path.read_text(), package):
        assert rank[imported] <= rank[module], f"{path.name} imports {imported}, which lies above it"


def test_an_upward_import_inside_a_package_is_seen():
    text = "from infinicore.nn import functional, modules\nfrom infinicore.nn.modules.rope import RoPE\n"
    assert list(inner_imports(text, "nn")) == ["functional", "modules", "modules.rope"]
    assert list(inner_imports("from infinicore.nn import Linear\nimport infinicore\n", "nn")) == [""]


def test_nn_is_not_loaded_before_it_is_used():
    code = (
        "import sys, infinicore\n"
        "before = 'infinicore.nn' in sys.modules\n"
        "infinicore.nn.Linear(2, 2)\n"
        "print(before, {'numpy', 'torch', 'ntops'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "False set()"


def test_an_upward_import_is_seen():
    assert list(imports("from infinicore._dispatch import Operator\n")) == ["_dispatch"]
    text = "from infinicore import _graph, ops\n    from infinicore import late\n"
    assert list(imports(text)) == ["_graph", "ops"]
    text = "from infinicore._tensor cimport Tensor\ncimport infinicore._device\n"
    assert list(imports(text)) == ["_tensor", "_device"]


def test_every_public_name_is_there():
    for name in infinicore.__all__:
        assert getattr(infinicore, name, None) is not None or name in ("ntops",), name
    # The table of the Python front-end.
    for name in (
        "device dtype float16 float32 float64 bfloat16 half double float int8 int16 int32 int64 short int "
        "long uint8 bool complex32 complex64 complex128 chalf cfloat cdouble Tensor empty zeros ones "
        "empty_like from_blob context DeviceEvent utils add matmul mul narrow rearrange attention nn "
        "use_ntops"
    ).split():
        assert hasattr(infinicore, name), name
    assert infinicore.nn.functional.silu is not None
