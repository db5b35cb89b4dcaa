# Hypothesis strategies read from operator schemas: whole calls, with shapes, layouts, dtypes, scalars and
# aliasing. A drawn call holds NumPy data only; conformance.py puts it on a device and runs it.
"""Draw calls of operators."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from infinicore.schema import (
    DTYPES,
    EMPTY,
    VARIABLES,
    CallParameter,
    Dim,
    Elements,
    Parameter,
    Resolved,
    Schema,
    Spec,
    Values,
)
from infinicore.testing.elements import NUMPY, PARTS, Layout, decode, encode, itemsize

__all__ = [
    "NUMPY",
    "PARTS",
    "DrawnCall",
    "DrawnTensor",
    "Layout",
    "calls",
    "combinations",
    "decode",
    "encode",
    "itemsize",
