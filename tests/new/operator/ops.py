# Operator squareplus. It starts as squareplus: put another formula into docstring and body, into the kernel
# (squareplus.cpp) and into the tests (test_squareplus.py, and the witness in test_references.py).
"""Operator squareplus."""

from infinicore.schema import C, In, Out, Tensor, np, operator


@operator(inplace="input", c=C("Squareplus", suffix=""))
def squareplus(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"]):
    """Squareplus, a smooth rectifier: ``out = (input + sqrt(input**2 + 4)) / 2``.

    Parameters
    ----------
    input : Tensor
        Any shape, a float dtype.
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
    Barron, "Squareplus: A Softplus-Like Algebraic Rectifier" (2021). f16 and bf16 are computed in f32 and
    rounded once.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([-1.5, 0.0, 1.5], dtype=ic.float32, device="cpu")
    >>> ic.squareplus(x).tolist()
    [0.5, 1.0, 2.0]
    """
    return (input + np.sqrt(input * input + 4)) / 2
