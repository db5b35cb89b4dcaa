# Sphinx's settings. The pages of operators, of the tree's folders and of vendors' wheels are written by
# pages.py before Sphinx looks for sources: docs/operators, docs/tree and docs/backends are made here.
"""Configuration of the documentation."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import pages  # noqa: E402

import infinicore  # noqa: E402

project = "infinicore"
author = "the infinicore developers"
version = release = infinicore.__version__
extensions = ["myst_parser"]
html_theme = "furo"
html_title = f"infinicore {version}"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]

pages.write(HERE)
