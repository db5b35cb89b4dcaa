# Operators that compute each element of the output from the elements at the same place of the inputs.
# Two-operand ones broadcast as NumPy does; the output has the broadcast shape.
"""Elementwise operators."""

from infinicore.schema import C, Elements, In, Out, Tensor, np, operator

# The C API names the operands of a binary operator c, a, b, and gives their descriptors no suffix.
_C_BINARY = "c@out, a@input, b@other"


def _binary(base):
    return C(base, _C_BINARY, _C_BINARY, suffix="")


# ---- arithmetic --------------------------------------------------------------------------------------------


@operator(inplace="input other", c=_binary("Add"))
def add(out: Out[Tensor, "N *s"], input: In[Tensor, "N *s~"], other: In[Tensor, "N *s~"]):
    """Sum of two tensors: ``out = input + other``.

    Parameters
    ----------
    input, other : Tensor
        Operands of one number dtype (floats, integers, complex). Their shapes broadcast.
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
        The dtypes differ, or are no number dtype.

    Notes
    -----
    Integers wrap around. f16 and bf16 are added in f32 and rounded once, to nearest even.
    """
    return input + other


@operator(inplace="input other", c=_binary("Sub"))
def sub(out: Out[Tensor, "N *s"], input: In[Tensor, "N *s~"], other: In[Tensor, "N *s~"]):
    """Difference of two tensors: ``out = input - other``.

    Parameters, dtypes, broadcasting and errors are those of `add`.
    """
    return input - other


@operator(inplace="input other", c=_binary("Mul"))
def mul(out: Out[Tensor, "N *s"], input: In[Tensor, "N *s~"], other: In[Tensor, "N *s~"]):
    """Product of two tensors, element by element: ``out = input * other``.

    Parameters, dtypes, broadcasting and errors are those of `add`. For the matrix product see `matmul`.
    """
    return input * other


@operator(inplace="input other", c=_binary("Div"))
def div(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s~"], other: In[Tensor, "F *s~"]):
    """Quotient of two tensors: ``out = input / other``.

    Parameters
    ----------
    input, other : Tensor
        Operands of one float dtype. Their shapes broadcast.
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
    Division by zero follows IEEE 754: ``x / 0`` is infinite with the sign of both operands, ``0 / 0`` is NaN.
    """
    return input / other


@operator(inplace="input other", c=_binary("Pow"), draw=lambda draw, st: {"input": Elements(0.125, 4.0)})
def pow(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s~"], other: In[Tensor, "F *s~"]):
    """Power: ``out = input ** other``.

    Parameters, dtypes, broadcasting and errors are those of `div`.

    Notes
    -----
    Special values are those of C's ``pow``: a negative base with an exponent that is no integer gives NaN,
    and ``x ** 0`` is 1 for every ``x``, NaN included.
    """
    return np.power(input, other)


@operator(inplace="input", c=C("Neg", suffix=""))
def neg(out: Out[Tensor, "N *s"], input: In[Tensor, "N *s"]):
    """Negation: ``out = -input``.

    Parameters
    ----------
    input : Tensor
        Any number dtype. Integers wrap around: the smallest is its own negative.
    out : Tensor, optional
        Where the result goes: same shape and dtype. May be `input`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError, DTypeError
        `out` differs from `input`, or the dtype is no number dtype.
    """
    return -input


@operator(inplace="input", c=C("Abs", suffix=""))
def abs(out: Out[Tensor, "R *s"], input: In[Tensor, "R *s"]):
    """Absolute value: ``out = |input|``.

    Parameters
    ----------
    input : Tensor
        Any dtype with an order, so no complex one. The smallest integer is its own absolute value.
    out : Tensor, optional
        Where the result goes: same shape and dtype. May be `input`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError, DTypeError
        `out` differs from `input`, or the dtype has no order.
    """
    return np.abs(input)


# ---- comparison --------------------------------------------------------------------------------------------


@operator(inplace="input other", c=_binary("Equal"))
def equal(out: Out[Tensor, "bool *s"], input: In[Tensor, "T *s~"], other: In[Tensor, "T *s~"]):
    """Whether elements are equal: ``out = input == other``.

    Parameters
    ----------
    input, other : Tensor
        Operands of one dtype, whichever. Their shapes broadcast.
    out : Tensor, optional
        Where the result goes: the broadcast shape, dtype bool.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        The shapes do not broadcast, or `out` has another shape.
    DTypeError
        The operands' dtypes differ, or `out` is not bool.

    Notes
    -----
    IEEE 754 comparison: NaN equals nothing, and -0.0 equals 0.0.
    """
    return input == other


@operator(inplace="input other", c=_binary("NotEqual"))
def not_equal(out: Out[Tensor, "bool *s"], input: In[Tensor, "T *s~"], other: In[Tensor, "T *s~"]):
    """Whether elements differ: ``out = input != other``.

    Parameters, dtypes, broadcasting and errors are those of `equal`. NaN differs from everything.
    """
    return input != other


@operator(inplace="input other", c=_binary("Less"))
def less(out: Out[Tensor, "bool *s"], input: In[Tensor, "R *s~"], other: In[Tensor, "R *s~"]):
    """Whether elements are smaller: ``out = input < other``.

    Parameters, broadcasting and errors are those of `equal`; the dtype must have an order, so complex is
    excluded. Comparing with NaN gives False.
    """
    return input < other


@operator(inplace="input other", c=_binary("LessEqual"))
def less_equal(out: Out[Tensor, "bool *s"], input: In[Tensor, "R *s~"], other: In[Tensor, "R *s~"]):
    """Whether elements are smaller or equal: ``out = input <= other``.

    Everything else is as in `less`.
    """
    return input <= other


@operator(inplace="input other", c=_binary("Greater"))
def greater(out: Out[Tensor, "bool *s"], input: In[Tensor, "R *s~"], other: In[Tensor, "R *s~"]):
    """Whether elements are larger: ``out = input > other``.

    Everything else is as in `less`.
    """
    return input > other


@operator(inplace="input other", c=_binary("GreaterEqual"))
def greater_equal(out: Out[Tensor, "bool *s"], input: In[Tensor, "R *s~"], other: In[Tensor, "R *s~"]):
    """Whether elements are larger or equal: ``out = input >= other``.

    Everything else is as in `less`.
    """
    return input >= other


# ---- activations -------------------------------------------------------------------------------------------


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


@operator(inplace="input other", c=C("SwiGLU", _C_BINARY, _C_BINARY))
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
    The elementwise part of the layer in Shazeer, "GLU Variants Improve Transformer" (2020).
    """
    return input * (other / (1 + np.exp(-other)))


# ---- conversion and filling --------------------------------------------------------------------------------


@operator(inplace="input", python="cast(input, *, out)")
def cast(out: Out[Tensor, "D *s"], input: In[Tensor, "S *s"]):
    """Conversion to another element type: ``out = input``.

    Parameters
    ----------
    input : Tensor
        Any dtype.
    out : Tensor
        Where the result goes: the shape of `input`, any dtype.

    Returns
    -------
    Tensor
        `out`.

    Raises
    ------
    ShapeError
        `out` has another shape than `input`.

    Notes
    -----
    Floats are rounded to nearest even, and overflow to infinity (f8, which has none, to NaN). Integers wrap
    around. A float becomes an integer by dropping its fraction; out of the integer's range the result is
    unspecified. Whatever is not zero becomes True. A complex number becomes real by dropping its imaginary
    part.
    """
    if np.iscomplexobj(input) and out.dtype != bool and not np.issubdtype(out.dtype, np.complexfloating):
        input = input.real
    return input.astype(out.dtype)


@operator(inplace="x", c=C("Zeros", suffix=""))
def zeros(y: Out[Tensor, "T *s"], x: In[Tensor, "T *s"]):
    """Zeros in the shape and dtype of a tensor: ``y = 0``.

    Parameters
    ----------
    x : Tensor
        Gives shape and dtype; it is not read.
    out : Tensor, optional
        Where the result goes: same shape and dtype. May be `x`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError, DTypeError
        `out` differs from `x`.
    """
    return np.zeros_like(x)


@operator(inplace="x", c=C("Ones", suffix=""))
def ones(y: Out[Tensor, "T *s"], x: In[Tensor, "T *s"]):
    """Ones in the shape and dtype of a tensor: ``y = 1``.

    Parameters and errors are those of `zeros`.
    """
    return np.ones_like(x)
