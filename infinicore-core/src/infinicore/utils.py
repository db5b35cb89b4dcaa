# Element types across libraries: torch, NumPy and infinicore name the same types differently.
"""Conversion between the dtypes of infinicore, PyTorch and NumPy.

Examples
--------
>>> import infinicore as ic
>>> ic.utils.infinicore_to_numpy_dtype(ic.float16), ic.utils.numpy_to_infinicore_dtype("int32")
(dtype('float16'), infinicore.int32)
"""

from __future__ import annotations

from infinicore import _dtype

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["infinicore_to_numpy_dtype", "numpy_to_infinicore_dtype", "to_infinicore_dtype", "to_torch_dtype"]

# Where torch's name is not ours. A byte is torch's uint8; torch has no pair of float8.
_TORCH_NAMES = {"byte": "uint8", "float8": "float8_e4m3fn", "complex16": None}
# What NumPy lacks and ml_dtypes has.
_ML_DTYPES = {"bfloat16": "bfloat16", "float8": "float8_e4m3fn"}


def to_torch_dtype(infini_dtype: Any) -> Any:
    """Return the torch dtype for an infinicore dtype.

    Parameters
    ----------
    infini_dtype : dtype
        Or anything else that names one, such as ``"float16"``.

    Returns
    -------
    torch.dtype

    Raises
    ------
    ValueError
        If torch has no such type.

    Examples
    --------
    >>> import infinicore as ic
    >>> import torch
    >>> ic.utils.to_torch_dtype(ic.bfloat16)
    torch.bfloat16
    """
    import torch

    dtype = _known(infini_dtype, "infinicore")
    name = _TORCH_NAMES.get(dtype.name, dtype.name)
    found = getattr(torch, name, None) if name else None
    if found is None:
        raise _unsupported("infinicore", infini_dtype)
    return found


def to_infinicore_dtype(torch_dtype: Any) -> _dtype.dtype:
    """Return the infinicore dtype for a torch dtype.

    Raises
    ------
    ValueError
        If infinicore has no such type.

    Examples
    --------
    >>> import infinicore as ic
    >>> import torch
    >>> ic.utils.to_infinicore_dtype(torch.float16)
    infinicore.float16
    """
    return _known(torch_dtype, "torch")


def numpy_to_infinicore_dtype(numpy_dtype: Any) -> _dtype.dtype:
    """Return the infinicore dtype for a NumPy dtype or scalar type; those of ml_dtypes included.

    Raises
    ------
    ValueError
        If infinicore has no such type.

    Examples
    --------
    >>> import infinicore as ic
    >>> import numpy as np
    >>> ic.utils.numpy_to_infinicore_dtype(np.float16)
    infinicore.float16
    """
    import numpy

    try:
        described = numpy.dtype(numpy_dtype)
    except TypeError:
        raise _unsupported("numpy", numpy_dtype) from None
    if described == infinicore_to_numpy_dtype("complex32"):
        return _dtype.get("complex32")
    if described.fields is not None and described == infinicore_to_numpy_dtype("complex16"):
        return _dtype.get("complex16")
    return _known(described, "numpy")


def infinicore_to_numpy_dtype(infini_dtype: Any) -> Any:
    """Return the NumPy dtype for an infinicore dtype.

    ``bfloat16`` and ``float8`` are those of ml_dtypes, ``complex32`` too where its version has it; otherwise
    a complex type that NumPy lacks is a structure of ``real`` and ``imag``.

    Raises
    ------
    ValueError
        If the argument names no dtype.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.utils.infinicore_to_numpy_dtype(ic.int64)
    dtype('int64')
    """
    import numpy

    dtype = _known(infini_dtype, "infinicore")
    if dtype.name in _ML_DTYPES:
        import ml_dtypes

        return numpy.dtype(getattr(ml_dtypes, _ML_DTYPES[dtype.name]))
    if dtype.name == "complex32":
        import ml_dtypes

        if hasattr(ml_dtypes, "complex32"):
            return numpy.dtype(ml_dtypes.complex32)
        return numpy.dtype([("real", numpy.float16), ("imag", numpy.float16)])
    if dtype.name == "complex16":
        import ml_dtypes

        part = ml_dtypes.float8_e4m3fn
        return numpy.dtype([("real", part), ("imag", part)])
    return numpy.dtype("uint8" if dtype.name == "byte" else dtype.name)


def _known(value: Any, library: str) -> _dtype.dtype:
    try:
        return _dtype.get(value)
    except TypeError:
        raise _unsupported(library, value) from None


def _unsupported(library: str, value: Any) -> Exception:
    from infinicore.errors import InvalidArgument

    return InvalidArgument(f"Unsupported {library} dtype: {value}")
