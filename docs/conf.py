# Sphinx's settings, and the operator pages: each is written from the operator's own signature and docstring.
# The folder docs/operators is made here and is no source.
"""Configuration of the documentation."""

from pathlib import Path

import infinicore
import infinicore.ops
from infinicore.schema import OPERATORS

project = "infinicore"
author = "the infinicore developers"
version = release = infinicore.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"infinicore {version}"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]


def write_operator_pages(folder: Path) -> None:
    """Write a page per operator: its Python call, its signature, and what its docstring says."""
    folder.mkdir(exist_ok=True)
    for name, schema in OPERATORS.items():
        function = schema.call.name
        slots = "\n".join(f"    {parameter!r}" for parameter in schema.parameters)
        page = f"""
{name}
{"=" * len(name)}

.. py:function:: infinicore.{schema.call}

{_indented(schema.doc)}

Signature
---------

.. code-block:: text

    {name}
{slots}

{"In place: an output may be exactly " + " or ".join(f"``{n}``" for n in sorted(schema.inplace)) + "." if schema.inplace else ""}
"""  # noqa: E501
        (folder / f"{function}.rst").write_text(page)


def _indented(docstring: str) -> str:
    import inspect

    from sphinx.ext.napoleon import Config, NumpyDocstring

    text = str(NumpyDocstring(inspect.cleandoc(docstring), Config(napoleon_use_rtype=False)))
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())


write_operator_pages(Path(__file__).parent / "operators")
