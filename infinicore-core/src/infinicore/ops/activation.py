# Activations: functions of one element, and the two that gate one half of their input with the other.
# Formulas name their source; NaN gives NaN, and infinities give the limit or, where that is 0 * inf, NaN.
"""Activation operators."""

from math import erfc, pi, sqrt

from infinicore.errors import InvalidArgument
from infinicore.schema import C, In, Out, Static, Tensor, np, operator


def _unary(base, out="y", input="x"):
    """The C form of a function of one tensor; its API calls them y and x, or output and (sic) intput."""
    arguments = f"{out}@out, {input}@input"
    return C(base, arguments, arguments, suffix="")


def _gated(value, gate):
    gated = value * (gate / (1 + np.exp(-gate)))
    return np.where(np.isinf(value) & (gate > -np.inf), value * gate, gated)


# ---- rectifiers --------------------------------------------------------------------------------------------


@operator(inplace="input", c=_unary("Relu"))
def relu(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"]):
    """Rectified linear unit: ``out = max(input, 0)``.

    Parameters
    ----------
    input : Tensor
        Any float dtype.
    out : Tensor, optional
        Where the result goes: same shape and dtype. May be `input`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError, DTypeError
        `out` differs from `input`, or the dtype is no float dtype.

    Notes
    -----
    Nair and Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines" (2010).

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.relu(ic.from_list([-2.0, 0.0, 3.0])).tolist()
    [0.0, 0.0, 3.0]
    """
    return np.maximum(input, 0)


@operator(python="leaky_relu(input, negative_slope=..., *, out=None)", inplace="input")
def leaky_relu(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"], *, negative_slope: Static[float] = 0.01):
    """Rectifier that leaks: ``out = input`` where it is positive, else ``negative_slope * input``.

    Parameters and errors are those of `relu`; `negative_slope` is any number.

    Notes
    -----
    Maas, Hannun and Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models" (2013).

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.leaky_relu(ic.from_list([-2.0, 3.0]), 0.5).tolist()
    [-1.0, 3.0]
    """
    return np.where(input > 0, input, negative_slope * input)


@operator(python="elu(input, alpha=..., *, out=None)", inplace="input")
def elu(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"], *, alpha: Static[float] = 1.0):
    """Exponential linear unit: ``out = input`` where it is positive, else ``alpha * (exp(input) - 1)``.

    Parameters and errors are those of `relu`; `alpha` is any number.

    Notes
    -----
    Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units
    (ELUs)" (2015).
    """
    return np.where(input > 0, input, alpha * np.expm1(input))


@operator(
    python="softplus(input, beta=..., threshold=..., *, out=None)",
    inplace="input",
    c=_unary("Softplus"),
    draw=lambda draw, st: {
        "beta": draw(st.sampled_from([1.0, 0.5, 2.0])),
        "threshold": draw(st.sampled_from([20.0, 1.0])),
    },
)
def softplus(
    out: Out[Tensor, "F *s"],
    input: In[Tensor, "F *s"],
    *,
    beta: Static[float] = 1.0,
    threshold: Static[float] = 20.0,
):
    """Smooth rectifier: ``out = log(1 + exp(beta * input)) / beta``.

    Parameters
    ----------
    input : Tensor
        Any float dtype.
    beta : float
        How sharply it bends.
    threshold : float
        Where ``beta * input`` exceeds it, the result is `input` itself.
    out : Tensor, optional
        Where the result goes: same shape and dtype. May be `input`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError, DTypeError
        `out` differs from `input`, or the dtype is no float dtype.

    Notes
    -----
    Dugas and others, "Incorporating Second-Order Functional Knowledge for Better Option Pricing" (2000).
    Computed as ``max(z, 0) + log1p(exp(-|z|))`` with ``z = beta * input``, which cannot overflow. The C
    function takes neither number and uses the defaults.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.softplus(ic.from_list([-1000.0, 1000.0])).tolist()
    [0.0, 1000.0]
    """
    z = beta * input
    return np.where(z > threshold, input, np.logaddexp(0, z) / beta)


def _hardtanh_errors(min_val, max_val):
    if min_val > max_val:
        raise InvalidArgument(f"hardtanh: min_val={min_val} is larger than max_val={max_val}")


def _hardtanh_draw(draw, st):
    low, high = sorted(draw(st.sampled_from([-1.0, 1.0, -0.5, 0.0, 2.0])) for _ in range(2))
    return {"min_val": low, "max_val": high}


@operator(
    python="hardtanh(input, min_val=..., max_val=..., *, out=None)",
    inplace="input",
    c=C("HardTanh", "output@out, input, float min_val, float max_val", "output@out, input", suffix=""),
    errors=_hardtanh_errors,
    draw=_hardtanh_draw,
)
def hardtanh(
    out: Out[Tensor, "F *s"],
    input: In[Tensor, "F *s"],
    *,
    min_val: Static[float] = -1.0,
    max_val: Static[float] = 1.0,
):
    """Clipping to an interval: ``out = min(max(input, min_val), max_val)``.

    Parameters
    ----------
    input : Tensor
        Any float dtype.
    min_val, max_val : float
        The interval, at least one point.
    out : Tensor, optional
        Where the result goes: same shape and dtype. May be `input`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError, DTypeError
        `out` differs from `input`, or the dtype is no float dtype.
    InvalidArgument
        `min_val` is larger than `max_val`.

    Notes
    -----
    Collobert, "Large Scale Machine Learning" (2004). NaN stays NaN.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.hardtanh(ic.from_list([-2.0, 0.5, 3.0])).tolist()
    [-1.0, 0.5, 1.0]
    """
    return np.clip(input, min_val, max_val)


# ---- sigmoids ----------------------------------------------------------------------------------------------


@operator(inplace="input", c=_unary("Sigmoid"))
def sigmoid(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"]):
    """Logistic function: ``out = 1 / (1 + exp(-input))``.

    Parameters and errors are those of `relu`.

    Notes
    -----
    Verhulst, "Notice sur la loi que la population suit dans son accroissement" (1838).

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.sigmoid(ic.from_list([0.0, 100.0])).tolist()
    [0.5, 1.0]
    """
    return 1 / (1 + np.exp(-input))


@operator(inplace="input", c=_unary("Tanh", "output", "input"))
def tanh(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"]):
    """Hyperbolic tangent: ``out = (exp(2 * input) - 1) / (exp(2 * input) + 1)``.

    Parameters and errors are those of `relu`.
    """
    return np.tanh(input)


# ---- gated units -------------------------------------------------------------------------------------------


@operator(inplace="input", c=_unary("Gelu", "output", "intput"))
def gelu(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"]):
    """Gaussian error linear unit: ``out = input * (1 + erf(input / sqrt(2))) / 2``.

    Parameters and errors are those of `relu`.

    Notes
    -----
    Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)" (2016). The factor is the probability that a
    standard normal number is below `input`. ``gelu(-inf)`` is NaN, as the product 0 * inf is.
    """
    probability = np.vectorize(erfc, otypes=[input.dtype])(input / -sqrt(2)) / 2
    return input * probability


@operator(inplace="input", c=_unary("GeluTanh"))
def gelu_tanh(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"]):
    """`gelu` by a hyperbolic tangent: ``out = input * (1 + tanh(u)) / 2``.

    Here ``u = sqrt(2 / pi) * (input + 0.044715 * input**3)``. Parameters and errors are those of `relu`.

    Notes
    -----
    The approximation of the paper that `gelu` cites. Computed as ``input * sigmoid(2 * u)``, which is the
    same and does not cancel. ``gelu_tanh(-inf)`` is NaN, as the product 0 * inf is.
    """
    u = sqrt(2 / pi) * (input + 0.044715 * input**3)
    return input / (1 + np.exp(-2 * u))


@operator(inplace="input", c=_unary("QuickGelu"))
def quick_gelu(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"]):
    """`gelu` by a sigmoid: ``out = input * sigmoid(1.702 * input)``.

    Parameters and errors are those of `relu`.

    Notes
    -----
    The second approximation of the paper that `gelu` cites. ``quick_gelu(-inf)`` is NaN, as the product
    0 * inf is.
    """
    return input / (1 + np.exp(-1.702 * input))


@operator(inplace="input", c=_unary("HardSwish", "output", "input"))
def hardswish(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"]):
    """`silu` with a sigmoid of straight lines: ``out = input * min(max(input + 3, 0), 6) / 6``.

    Parameters and errors are those of `relu`.

    Notes
    -----
    Howard and others, "Searching for MobileNetV3" (2019). ``hardswish(-inf)`` is NaN, as the product 0 * inf
    is.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.hardswish(ic.from_list([-4.0, 1.5, 5.0])).tolist()
    [-0.0, 1.125, 5.0]
    """
    return input * (np.clip(input + 3, 0, 6) / 6)


@operator(inplace="input", c=C("Silu", "output@out, intput@input", "output@out, intput@input", suffix=""))
def silu(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"]):
    """Sigmoid-weighted linear unit: ``out = input * sigmoid(input)``.

    Parameters
    ----------
    input : Tensor
        Any float dtype.
    out : Tensor, optional
        Where the result goes: same shape and dtype. May be `input`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError, DTypeError
        `out` differs from `input`, or the dtype is no float dtype.

    Notes
    -----
    The formula is that of Elfwing, Uchibe and Doya, "Sigmoid-Weighted Linear Units for Neural Network
    Function Approximation in Reinforcement Learning" (2017). ``silu(-inf)`` is NaN, as the product 0 * inf
    is.
    """
    return input / (1 + np.exp(-input))


@operator(inplace="input other", c=C("SwiGLU", "c@out, a@input, b@other", "c@out, a@input, b@other"))
def swiglu(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s~"], other: In[Tensor, "F *s~"]):
    """Swish-gated linear unit: ``out = input * other * sigmoid(other)``; the second argument is the gate.

    Parameters
    ----------
    input, other : Tensor
        Value and gate, of one float dtype. Their shapes broadcast.
    out : Tensor, optional
        Where the result goes: the broadcast shape, the operands' dtype. May be an operand.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        The shapes do not broadcast, or `out` has another shape.
    DTypeError
        The dtypes differ, or are no float dtype.

    Notes
    -----
    The elementwise part of the layer in Shazeer, "GLU Variants Improve Transformer" (2020). An infinite
    `input` is infinite under every finite gate but zero: a gate that rounds to zero does not make it NaN.
    ``other = -inf`` gives NaN, as in `silu`.
    """
    return _gated(input, other)


@operator(
    python="silu_and_mul(input, out=None)",
    c=C("SiluAndMul", "output@out, input", "output@out, input", suffix=""),
)
def silu_and_mul(out: Out[Tensor, "F *r d//2"], input: In[Tensor, "F *r d"]):
    """Swish-gated linear unit of one tensor: ``out = silu(first half) * second half`` of the last axis.

    Parameters
    ----------
    input : Tensor
        Shape ``(*rows, d)`` with an even ``d``, a float dtype: the gate, then the value.
    out : Tensor, optional
        Where the result goes: shape ``(*rows, d / 2)``, the dtype of `input`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        `input` has no dimension or an odd last one, or `out` has another shape.
    DTypeError
        The dtype is no float dtype, or `out` has another.

    Notes
    -----
    `swiglu` where one matrix product made both operands; the formula's source and its infinities are there.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.silu_and_mul(ic.from_list([0.0, 100.0, 5.0, 2.0])).tolist()
    [0.0, 200.0]
    """
    gate, value = np.split(input, 2, axis=-1)
    return _gated(value, gate)
