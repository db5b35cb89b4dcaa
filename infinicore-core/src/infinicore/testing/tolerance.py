# How far a computed value may lie from the float64 reference: per operator and dtype, in three terms.
# A backend that needs more says so in its known_failures.toml; the numbers here hold for every device.
"""Tolerances of operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from infinicore.testing.elements import NUMPY

__all__ = ["EXACT", "Tolerance", "distance", "mismatches", "spacing", "tolerance"]


@dataclass(frozen=True)
class Tolerance:
    """What counts as equal: ``|got - want| <= atol + rtol * |want| + ulps * spacing(want)``.

    Attributes
    ----------
    ulps : float
        Units in the last place of the output's dtype: what rounding the right result may cost.
    rtol, atol : float
        What the computation before that rounding may cost, relative and absolute.
    """

    ulps: float = 0.0
    rtol: float = 0.0
    atol: float = 0.0

    def __str__(self) -> str:
        return f"{self.ulps:g} ulp + {self.rtol:g} * |want| + {self.atol:g}"


EXACT = Tolerance()

# Operators that move, compare or select values, and those whose result is one correctly rounded operation.
_EXACT = frozenset(
    "abs all amax amin any argmax argmin cast cat ceil clip clip_scalar count_nonzero embedding equal "
    "floor gather greater greater_equal hardtanh index_select kv_caching less less_equal logical_and "
    "logical_not logical_or logical_xor masked_select max maximum min minimum neg not_equal ones "
    "paged_caching random_sample random_sample_batch rearrange relu round sort topk where zeros".split()
)
_ROUNDED_ONCE = frozenset("add dequantize_awq dequantize_gptq mul reciprocal sqrt sub".split())
# What one rounding to nearest costs: half a unit, and a little where an f32 in between was rounded, too. A
# kernel that cuts bits off instead is up to a whole unit away.
_HALF = 0.501
_PARTS = {"complex16": "float8", "complex32": "float16", "complex64": "float32", "complex128": "float64"}

# name -> dtype -> (ulps, rtol, atol); "" is every operator without an entry of its own. Sums of values of
# both signs cancel, so that their error is absolute: about eps * sum(|terms|), with |terms| of the inputs.
# Sums of f16 and bf16 are kept in f32 and rounded once: little more than that one rounding is allowed.
_TABLE: dict[str, dict[str, tuple[float, float, float]]] = {
    "": {
        "float8": (1, 0.1, 0.1),
        "float16": (_HALF, 1e-4, 1e-4),
        "bfloat16": (_HALF, 1e-4, 1e-4),
        "float32": (2, 2e-6, 2e-6),
        "float64": (2, 1e-14, 1e-14),
    },
    "div": {"float16": (_HALF, 0, 0), "bfloat16": (_HALF, 0, 0), "float32": (1, 0, 0), "float64": (1, 0, 0)},
    "exp": {
        "float16": (_HALF, 1e-4, 1e-7),
        "bfloat16": (_HALF, 1e-4, 1e-7),
        "float32": (2, 0, 1e-44),
        "float64": (2, 0, 0),
    },
    "pow": {
        "float16": (_HALF, 1e-3, 0),
        "bfloat16": (_HALF, 1e-3, 0),
        "float32": (4, 2e-6, 0),
        "float64": (4, 1e-14, 0),
    },
    "sigmoid": {
        "float16": (_HALF, 1e-4, 1e-7),
        "bfloat16": (_HALF, 1e-4, 1e-7),
        "float32": (0, 1e-7, 1e-7),
        "float64": (4, 0, 2.22e-16),
    },
    "leaky_relu": {
        "float16": (_HALF, 0, 0),
        "bfloat16": (_HALF, 0, 0),
        "float32": (2, 0, 0),
        "float64": (1, 0, 0),
    },
    "silu": {
        "float16": (_HALF, 1e-4, 1e-7),
        "bfloat16": (_HALF, 1e-4, 1e-7),
        "float32": (4, 1e-6, 1e-7),
        "float64": (4, 1e-14, 2.22e-15),
    },
    "swiglu": {
        "float16": (_HALF, 1e-4, 1e-7),
        "bfloat16": (_HALF, 1e-4, 1e-7),
        "float32": (4, 1e-6, 1e-6),
        "float64": (4, 1e-14, 2.22e-15),
    },
    "softmax": {
        "float16": (_HALF, 1e-4, 1e-7),
        "bfloat16": (_HALF, 1e-4, 1e-7),
        "float32": (4, 1e-5, 1e-7),
        "float64": (4, 1e-14, 1e-15),
    },
    "logsoftmax": {
        "float16": (_HALF, 1e-5, 1e-6),
        "bfloat16": (_HALF, 1e-5, 1e-6),
        "float32": (4, 1e-6, 1e-6),
        "float64": (4, 1e-15, 1e-15),
    },
    "lp_norm": {
        "float16": (_HALF, 1e-5, 0),
        "bfloat16": (_HALF, 1e-5, 0),
        "float32": (4, 1e-6, 0),
        "float64": (4, 1e-14, 0),
    },
    "layer_norm": {
        # nearly equal values cancel: x - mean is off by eps * |x|, which 1/sqrt(var + eps) multiplies by 1e3
        "float16": (_HALF, 1e-3, 1e-3),
        "bfloat16": (_HALF, 1e-3, 1e-3),
        "float32": (8, 1e-4, 1e-3),
        "float64": (8, 1e-12, 1e-10),
    },
    "gemm": {
        "float16": (_HALF, 1e-4, 1e-4),
        "bfloat16": (_HALF, 1e-4, 1e-4),
        "float32": (2, 1e-6, 5e-5),
        "float64": (2, 1e-14, 1e-12),
    },
    "attention": {  # the error of a score is a relative one of its weight, which may be rounded to the dtype
        "float16": (_HALF, 1e-3, 1e-3),
        "bfloat16": (_HALF, 4e-3, 4e-3),
        "float32": (2, 1e-5, 1e-5),
        "float64": (2, 5e-14, 5e-14),
    },
    "index_add": {  # sums of a few terms that may cancel; a device may round them before it adds `input`
        "float16": (1, 1e-5, 1e-5),
        "bfloat16": (1, 1e-5, 1e-5),
        "float32": (1, 1e-6, 1e-5),
        "float64": (1, 1e-15, 1e-13),
    },
    "prod": {
        # the parts of a complex product may be small differences of large numbers
        "float8": (1, 0.1, 0.1),
        "float16": (_HALF, 1e-6, 0),
        "bfloat16": (_HALF, 1e-6, 0),
        "float32": (1, 1e-6, 0),
        "float64": (2, 1e-9, 1e-14),
    },
    "topkrouter": {"float32": (8, 1e-5, 1e-6)},
    "topksoftmax": {"float32": (4, 1e-5, 1e-7)},
}
for _name in ("elu", "gelu", "gelu_tanh", "hardswish", "quick_gelu", "softplus", "tanh"):
    _TABLE[_name] = _TABLE["sigmoid"] | {"float32": (3, 0, 1e-7)}
_TABLE |= dict.fromkeys(
    "mha mha_kvcache mha_varlen paged_attention paged_attention_prefill scaled_dot_product_attention".split(),
    _TABLE["attention"],
)
_TABLE["causal_softmax"] = _TABLE["softmax"]
_TABLE["silu_and_mul"] = _TABLE["swiglu"]
_TABLE["log"] = _TABLE["exp"]
_TABLE["scatter"] = _TABLE["index_add"]
_TABLE["rsqrt"] = {
    "float16": (_HALF, 1e-4, 0),
    "bfloat16": (_HALF, 1e-4, 0),
    "float32": (2, 0, 0),
    "float64": (2, 0, 0),
}
_TABLE["linear"] = _TABLE["gemm"]
_TABLE["conv"] = _TABLE["gemm"] | {"float32": (2, 1e-6, 1e-5)}


def tolerance(operator: str, dtype: str) -> Tolerance:
    """Look up how far an output of an operator may lie from the reference.

    Parameters
    ----------
    operator : str
        The operator's name.
    dtype : str
        The output's dtype, long name: ``"float16"``.
    """
    if operator in _EXACT:
        return EXACT
    if operator in _ROUNDED_ONCE:
        # The parts of a complex product are differences of two products.
        part = _PARTS.get(dtype) if operator == "mul" else None
        return Tolerance(*_TABLE[""][part]) if part else Tolerance(ulps=_HALF)
    table = _TABLE.get(operator, _TABLE[""])
    dtype = _PARTS.get(dtype, dtype)
    return Tolerance(*table[dtype]) if dtype in table else EXACT


def spacing(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Distance from each value to its neighbour in a floating-point dtype, in float64.

    Parameters
    ----------
    values : numpy.ndarray
        Finite float64 values.
    dtype : numpy.dtype
        Any floating-point dtype, those of ml_dtypes included.
    """
    info = ml_dtypes.finfo(dtype)
    smallest = float(info.smallest_normal)
    exponent = np.floor(np.log2(np.maximum(np.abs(values), smallest)))
    return np.exp2(exponent) * float(info.eps)


def mismatches(got: np.ndarray, want: np.ndarray, allowed: Tolerance, dtype: str) -> np.ndarray:
    """Mark the elements of `got` that are not the reference's.

    Parameters
    ----------
    got : numpy.ndarray
        The result.
    want : numpy.ndarray
        The reference: float64, complex128, or exact integers.
    allowed : Tolerance
    dtype : str
        Short name of the result's dtype, of one half where it is complex.

    Returns
    -------
    numpy.ndarray
        Bool, of the shape of `got`. A NaN equals a NaN; an infinity equals an infinity of its sign, or an
        overflow that is within the tolerance of the dtype's largest value.
    """
    if got.dtype.kind in "biu":
        return got != want.astype(got.dtype)
    if got.dtype.kind == "c":
        real = mismatches(got.real, want.real, allowed, dtype)
        return real | mismatches(got.imag, want.imag, allowed, dtype)
    part = NUMPY[dtype]
    with np.errstate(all="ignore"):
        value, want = got.astype(np.float64), want.astype(np.float64)
        rounded = want.astype(part).astype(np.float64)  # what overflows, overflows in the reference too
        limit = float(ml_dtypes.finfo(part).max)
        finite = np.where(np.isfinite(want), np.clip(want, -limit, limit), 0.0)
        bound = allowed.atol + allowed.rtol * np.abs(finite) + allowed.ulps * spacing(finite, part)
        near = np.abs(value - finite) <= bound
        at_limit = np.isinf(value) & (np.sign(value) == np.sign(want)) & (np.abs(finite) + bound >= limit)
        same = (value == rounded) | (np.isnan(value) & np.isnan(rounded))  # float8 overflows to NaN
        close = np.isfinite(want) & ((np.isfinite(value) & near) | at_limit)
    return ~(same | close)


def distance(got: np.ndarray, want: np.ndarray, allowed: Tolerance, dtype: str) -> float:
    """Measure how far the worst finite element lies from the reference.

    Parameters
    ----------
    got, want, allowed, dtype
        As in `mismatches`.

    Returns
    -------
    float
        In units in the last place of the reference, 0 for results that are no floats. Where an absolute
        error is allowed, since terms may cancel, the unit is that of the tensor's root mean square at least.
    """
    if got.dtype.kind in "biu":
        return 0.0
    if got.dtype.kind == "c":
        real = distance(got.real, want.real, allowed, dtype)
        return max(real, distance(got.imag, want.imag, allowed, dtype))
    part = NUMPY[dtype]
    with np.errstate(all="ignore"):
        value, want = got.astype(np.float64), want.astype(np.float64)
        finite = np.isfinite(value) & np.isfinite(want)
        value, want = value[finite], want[finite]
        scale = np.sqrt(np.mean(want**2)) if allowed.atol and want.size else 0.0
        units = spacing(np.maximum(np.abs(want), scale), part)
        return float(np.max(np.abs(value - want) / units, initial=0.0))
