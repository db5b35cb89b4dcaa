# Operators that compute each element of the output from the elements at the same place of the inputs.
# Two-operand ones broadcast as NumPy does; the output has the broadcast shape.
"""Elementwise operators."""

from infinicore.arguments import require_tensors
from infinicore.errors import ArgumentTypeError
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


# ---- functions of one number -------------------------------------------------------------------------------


@operator(inplace="input", c=C("Exp", suffix=""))
def exp(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"]):
    """Exponential: ``out = e ** input``.

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
    Special values are those of C's ``exp`` (ISO C, F.10.3.1): infinity where the result is too large, 0 for
    minus infinity.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.exp(ic.from_list([0.0, -float("inf")])).tolist()
    [1.0, 0.0]
    """
    return np.exp(input)


@operator(inplace="input", c=C("Log", suffix=""), draw=lambda draw, st: {"input": Elements(0.125, 8.0)})
def log(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"]):
    """Natural logarithm: ``out = ln input``.

    Parameters, dtypes and errors are those of `exp`.

    Notes
    -----
    Special values are those of C's ``log`` (ISO C, F.10.3.7): minus infinity for both zeros, NaN for negative
    numbers.
    """
    return np.log(input)


@operator(inplace="input", c=C("Sqrt", suffix=""), draw=lambda draw, st: {"input": Elements(0.0, 8.0)})
def sqrt(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"]):
    """Square root, rounded correctly: ``out = input ** 0.5``.

    Parameters, dtypes and errors are those of `exp`.

    Notes
    -----
    Special values are those of IEEE 754: NaN for negative numbers, -0.0 for -0.0.
    """
    return np.sqrt(input)


@operator(inplace="input", c=C("Rsqrt", suffix=""), draw=lambda draw, st: {"input": Elements(0.125, 8.0)})
def rsqrt(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"]):
    """Reciprocal of the square root: ``out = 1 / sqrt(input)``.

    Parameters, dtypes and errors are those of `exp`.

    Notes
    -----
    An infinity with the sign of its argument for zeros, 0 for infinity, NaN for negative numbers.
    """
    return 1 / np.sqrt(input)


@operator(inplace="input", c=C("Reciprocal", "y@out, x@input", "y@out, x@input", suffix=""))
def reciprocal(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"]):
    """Reciprocal: ``out = 1 / input``.

    Parameters, dtypes and errors are those of `exp`.

    Notes
    -----
    Division by zero follows IEEE 754: an infinity with the sign of the zero.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.reciprocal(ic.from_list([4.0, -0.0])).tolist()
    [0.25, -inf]
    """
    return 1 / input


@operator(inplace="input", c=C("Floor", "output@out, intput@input", "output@out, intput@input", suffix=""))
def floor(out: Out[Tensor, "R *s"], input: In[Tensor, "R *s"]):
    """Largest whole number that is not above: ``out = floor(input)``.

    Parameters
    ----------
    input : Tensor
        Any dtype with an order. Integers and booleans are whole already, and come back as they are.
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

    Notes
    -----
    Infinities and NaN stay what they are, and so does -0.0.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.floor(ic.from_list([1.5, -1.5])).tolist()
    [1.0, -2.0]
    """
    return input if input.dtype.kind in "biu" else np.floor(input)


@operator(inplace="input", c=C("Ceil", suffix=""))
def ceil(out: Out[Tensor, "R *s"], input: In[Tensor, "R *s"]):
    """Smallest whole number that is not below: ``out = ceil(input)``.

    Everything else is as in `floor`.
    """
    return input if input.dtype.kind in "biu" else np.ceil(input)


@operator(inplace="input", c=C("Round", suffix=""))
def round(out: Out[Tensor, "R *s"], input: In[Tensor, "R *s"]):
    """Nearest whole number, the even one of two that are equally near: ``out = round(input)``.

    Everything else is as in `floor`.

    Notes
    -----
    IEEE 754's roundToIntegralTiesToEven, which does not drift where halves are common.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.round(ic.from_list([0.5, 1.5, 2.5])).tolist()
    [0.0, 2.0, 2.0]
    """
    return input if input.dtype.kind in "biu" else np.rint(input)


# ---- selection ---------------------------------------------------------------------------------------------


@operator(inplace="input other", c=_binary("Maximum"))
def maximum(out: Out[Tensor, "R *s"], input: In[Tensor, "R *s~"], other: In[Tensor, "R *s~"]):
    """Larger of two elements: ``out = max(input, other)``.

    Parameters
    ----------
    input, other : Tensor
        Operands of one dtype that has an order. Their shapes broadcast.
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
        The dtypes differ, or have no order.

    Notes
    -----
    NaN wins, as in IEEE 754-2019's ``maximum``; which of two zeros is returned is unspecified.
    """
    return np.maximum(input, other)


@operator(inplace="input other", c=_binary("Minimum"))
def minimum(out: Out[Tensor, "R *s"], input: In[Tensor, "R *s~"], other: In[Tensor, "R *s~"]):
    """Smaller of two elements: ``out = min(input, other)``.

    Parameters, dtypes, broadcasting and errors are those of `maximum`; NaN wins here, too.
    """
    return np.minimum(input, other)


@operator(inplace="input other", c=C("Where", suffix=""))
def where(
    out: Out[Tensor, "T *s"],
    condition: In[Tensor, "bool *s~"],
    input: In[Tensor, "T *s~"],
    other: In[Tensor, "T *s~"],
):
    """One of two elements, as a condition says: ``out = input if condition else other``.

    Parameters
    ----------
    condition : Tensor
        dtype bool. The shapes of all three broadcast.
    input, other : Tensor
        What is taken where `condition` is True, and where it is False: one dtype, whichever.
    out : Tensor, optional
        Where the result goes: the broadcast shape, the dtype of the values. May be one of them.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        The shapes do not broadcast, or `out` has another shape.
    DTypeError
        `condition` is not bool, or the dtypes of the values differ.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([1.0, -2.0])
    >>> ic.where(x > 0, x, -x).tolist()
    [1.0, 2.0]
    """
    return np.where(condition, input, other)


_C_CLIP = "y@out, x, min_val, max_val"


@operator(
    name="clip",
    inplace="x min_val max_val",
    python="clip(x, min_val=None, max_val=None, *, out=None)",
    c=C("Clip", _C_CLIP, _C_CLIP, suffix=""),
)
def clip_between(
    out: Out[Tensor, "R *s"],
    x: In[Tensor, "R *s~"],
    min_val: In[Tensor, "R *s~"] | None,
    max_val: In[Tensor, "R *s~"] | None,
):
    """Elements kept between those of two tensors; see `clip`, which takes numbers too."""
    upper = x if max_val is None else np.minimum(x, max_val)
    return upper if min_val is None else np.maximum(upper, min_val)


@operator(
    inplace="input",
    python="clip_scalar(input, min_val, max_val, *, out=None)",
    c=C("ClipScalar", suffix=""),
)
def clip_scalar(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"], *, min_val: float, max_val: float):
    """Floats kept between two numbers: ``out = max(min(input, max_val), min_val)``; `clip` calls it.

    Parameters
    ----------
    input : Tensor
        Any float dtype.
    min_val, max_val : float
        The bounds. They are rounded to the dtype of `input`.
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
    ArgumentTypeError
        A bound is no number.

    Notes
    -----
    NaN stays NaN, and a bound that is NaN makes everything NaN.
    """
    return np.maximum(np.minimum(input, max_val), min_val)


def clip(
    x: Tensor,
    min_val: Tensor | float | None = None,
    max_val: Tensor | float | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Elements kept between bounds: ``out = max(min(x, max_val), min_val)``.

    Parameters
    ----------
    x : Tensor
        Any dtype with an order.
    min_val, max_val : Tensor or number, optional
        The bounds: two numbers, or two tensors of the dtype of `x` whose shapes broadcast with its. None: no
        bound on that side.
    out : Tensor, optional
        Where the result goes: the broadcast shape, the dtype of `x`. May be one of the operands.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        The shapes do not broadcast, or `out` has another shape.
    DTypeError
        The dtypes differ or have no order, or a bound has a fraction and `x` is of integers.
    ArgumentTypeError
        One bound is a tensor and the other a number, or a bound is neither.
    InvalidArgument
        A number does not fit into the integers that `x` holds.

    Notes
    -----
    NaN wins: in `x` and in a bound. Where ``min_val > max_val`` the result is `min_val`.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.clip(ic.from_list([-1.5, 0.25, 1.5]), 0, 1).tolist()
    [0.0, 0.25, 1.0]
    """
    require_tensors("clip", x=x)
    bounds = {"min_val": min_val, "max_val": max_val}
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    tensors = [name for name, bound in given.items() if hasattr(bound, "data_ptr")]
    if len(tensors) == len(given):
        return clip_between(x, min_val, max_val, out=out)
    if tensors:
        kinds = " and ".join(f"{name} is {type(bound).__name__}" for name, bound in given.items())
        raise ArgumentTypeError(f"clip: {kinds}, but both must be tensors or both numbers")
    if x.dtype.kind == "f" and x.dtype.itemsize > 1:  # all but f8
        low = -float("inf") if min_val is None else min_val
        high = float("inf") if max_val is None else max_val
        return clip_scalar(x, low, high, out=out)
    # A float cannot hold every integer: 0-d tensors do.
    from infinicore import full

    exact = {name: full((), bound, dtype=x.dtype, device=x.device) for name, bound in given.items()}
    return clip_between(x, **exact, out=out)


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


# ---- logic -------------------------------------------------------------------------------------------------


@operator(inplace="input other", c=_binary("LogicalAnd"))
def logical_and(out: Out[Tensor, "bool *s"], input: In[Tensor, "T *s~"], other: In[Tensor, "S *s~"]):
    """Whether both elements are true: ``out = input != 0 and other != 0``.

    Parameters
    ----------
    input, other : Tensor
        Operands of any dtypes, which may differ. Their shapes broadcast.
    out : Tensor, optional
        Where the result goes: the broadcast shape, dtype bool. May be an operand.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        The shapes do not broadcast, or `out` has another shape.
    DTypeError
        `out` is not bool.

    Notes
    -----
    Whatever is not zero is true: NaN too, and a complex number of which one part is not zero.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.logical_and(ic.from_list([0.0, 0.5]), ic.from_list([True, True])).tolist()
    [False, True]
    """
    return np.logical_and(input, other)


@operator(inplace="input other", c=_binary("LogicalOr"))
def logical_or(out: Out[Tensor, "bool *s"], input: In[Tensor, "T *s~"], other: In[Tensor, "S *s~"]):
    """Whether at least one element is true: ``out = input != 0 or other != 0``.

    Everything else is as in `logical_and`.
    """
    return np.logical_or(input, other)


@operator(inplace="input other", c=_binary("LogicalXor"))
def logical_xor(out: Out[Tensor, "bool *s"], input: In[Tensor, "T *s~"], other: In[Tensor, "S *s~"]):
    """Whether exactly one element is true: ``out = (input != 0) != (other != 0)``.

    Everything else is as in `logical_and`.
    """
    return np.logical_xor(input, other)


@operator(inplace="input", c=C("LogicalNot", suffix=""))
def logical_not(out: Out[Tensor, "bool *s"], input: In[Tensor, "T *s"]):
    """Whether elements are false: ``out = input == 0``.

    Parameters
    ----------
    input : Tensor
        Any dtype.
    out : Tensor, optional
        Where the result goes: same shape, dtype bool. May be `input`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError, DTypeError
        `out` has another shape, or is not bool.

    Notes
    -----
    What is true is said in `logical_and`.
    """
    return np.logical_not(input)


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
