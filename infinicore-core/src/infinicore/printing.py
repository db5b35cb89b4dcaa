# Text: the NumPy-style repr of tensors, the options that shape it, and `debug`. NumPy is not needed.
# Numbers are written with the fewest digits that identify them in their own dtype.
"""Printing of tensors."""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable, Iterator
from os import PathLike

from infinicore.errors import ArgumentTypeError, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from decimal import Decimal
    from types import TracebackType
    from typing import Any

    from infinicore._tensor import Tensor

__all__ = ["get_printoptions", "printoptions", "set_printoptions"]

_DEFAULTS = {"precision": 8, "threshold": 1000, "edgeitems": 3, "linewidth": 75, "suppress": False}
_global = dict(_DEFAULTS)
# What `printoptions` overrides, per thread and per asynchronous task.
_local: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("infinicore_printoptions")

_NAMES = {"byte": "BYTE", "bool": "BOOL", "float8": "F8", "bfloat16": "BF16"}


def get_printoptions() -> dict[str, Any]:
    """Return the options in effect: precision, threshold, edgeitems, linewidth, suppress.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.get_printoptions()["precision"]
    8
    """
    return {**_global, **_local.get({})}


def set_printoptions(
    *,
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    suppress: bool | None = None,
) -> None:
    """Change how tensors are printed; what is omitted stays.

    Parameters
    ----------
    precision : int
        Most digits after the point. 8 at first.
    threshold : int
        More elements than this are summarised. 1000 at first.
    edgeitems : int
        How many items a summary shows at each end of a dimension. 3 at first.
    linewidth : int
        Characters per line. 75 at first.
    suppress : bool
        Never switch to the exponent form for small or uneven numbers. False at first.

    Examples
    --------
    >>> import infinicore as ic
    >>> before = ic.get_printoptions()["precision"]
    >>> ic.set_printoptions(precision=2)
    >>> ic.full((2,), 1 / 3, dtype=ic.float32, device="cpu")
    tensor([0.33, 0.33], dtype=infinicore.float32, device='cpu:0')
    >>> ic.set_printoptions(precision=before)
    """
    _global.update(_checked(locals()))


class printoptions:
    """Change how tensors are printed within a ``with`` block; see `set_printoptions`.

    Examples
    --------
    >>> import infinicore as ic
    >>> with ic.printoptions(precision=3):
    ...     print(ic.full((1,), 2 / 3, dtype=ic.float32, device="cpu"))
    tensor([0.667], dtype=infinicore.float32, device='cpu:0')
    """

    def __init__(self, **options: Any) -> None:
        unknown = set(options) - set(_DEFAULTS)
        if unknown:
            raise ArgumentTypeError(
                f"printoptions: no option {sorted(unknown)[0]!r}; there are {', '.join(_DEFAULTS)}"
            )
        self._options = _checked(options)
        self._tokens: list[contextvars.Token[dict[str, Any]]] = []

    def __enter__(self) -> dict[str, Any]:
        self._tokens.append(_local.set({**_local.get({}), **self._options}))
        return get_printoptions()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _local.reset(self._tokens.pop())


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name != "suppress" and (not isinstance(value, int) or value < 0):
            raise InvalidArgument(f"printoptions: {name}: expected a non-negative int, got {value!r}")
    return given


# ---- repr ------------------------------------------------------------------------------------------


class _Gap:
    """Stands for the items that a summary leaves out."""


def format_tensor(tensor: Tensor) -> str:
    """Return the repr of a tensor."""
    options = get_printoptions()
    kind = type(tensor).__name__
    prefix = ("tensor" if kind == "Tensor" else kind) + "("
    suffix = f"dtype={tensor.dtype!r}, device='{tensor.device}')"
    if tensor.numel() == 0:
        shape = "" if tensor.shape == [0] else f"shape={list(tensor.shape)}, "
        return f"{prefix}[], {shape}{suffix}"
    values = _visible(tensor, options)
    write = _writer(tensor.dtype, tensor.ndim, list(_leaves(values)), options)
    body = _lay_out(values, write, " " * len(prefix), options["linewidth"], tensor.ndim)
    last = body.rpartition("\n")[2]
    room = len(last) + (len(prefix) if "\n" not in body else 0) + len(", ") + len(suffix)
    return f"{prefix}{body}," + (" " if room <= options["linewidth"] else "\n" + " " * len(prefix)) + suffix


def _visible(tensor: Tensor, options: dict[str, Any]) -> Any:
    """Nested lists of what is shown."""
    edge = options["edgeitems"]
    if tensor.numel() <= options["threshold"] or all(size <= 2 * edge for size in tensor.shape):
        return tensor.tolist()

    def shown(part: Tensor) -> Any:
        if all(size <= 2 * edge for size in part.shape):
            return part.tolist()
        size = part.shape[0]
        if size <= 2 * edge:
            return [shown(part[i]) for i in range(size)]
        ends = [shown(part[i]) for i in (*range(edge), *range(size - edge, size))]
        return [*ends[:edge], _Gap, *ends[edge:]]

    return shown(tensor)


def _leaves(values: Any) -> Iterator[Any]:
    if isinstance(values, list):
        for value in values:
            yield from _leaves(value)
    elif values is not _Gap:
        yield values


def _lay_out(values: Any, write: Callable[[Any], str], indent: str, width: int, depth: int) -> str:
    """Brackets and line breaks: one row per line, wrapped; blank lines between matrices."""
    if depth == 0:
        return write(values)
    indent += " "
    width -= 1  # the closing bracket
    if depth > 1:
        rows = ["..." if row is _Gap else _lay_out(row, write, indent, width, depth - 1) for row in values]
        return "[" + ("," + "\n" * (depth - 1) + indent).join(rows) + "]"
    lines, line = [], indent
    for position, value in enumerate(values):
        word = "..." if value is _Gap else write(value)
        if len(line) + len(word) > width and len(line) > len(indent):
            lines.append(line.rstrip())
            line = indent
        line += word + ("" if position + 1 == len(values) else ", ")
    lines.append(line)
    return "[" + "\n".join(lines)[len(indent) :] + "]"


def _writer(dtype: Any, ndim: int, values: list[Any], options: dict[str, Any]) -> Callable[[Any], str]:
    """A function that writes one element, aligned with all others."""
    if dtype.kind == "f":
        return _float_writer(dtype, values, options)
    if dtype.kind == "c":
        real = _float_writer(dtype, [value.real for value in values], options)
        imaginary = _float_writer(dtype, [value.imag for value in values], options, sign=True)

        def write(value: complex) -> str:
            text = imaginary(value.imag)
            bare = text.rstrip()
            return real(value.real) + bare + "j" + text[len(bare) :]

        return write
    # Truth values are as wide as "False" even if all are true, except for a single one.
    width = (
        len("False") if dtype.kind == "b" and ndim else max((len(str(value)) for value in values), default=0)
    )
    return lambda value: str(value).rjust(width)


def _float_writer(
    dtype: Any, values: list[float], options: dict[str, Any], sign: bool = False
) -> Callable[[float], str]:
    finite = [value for value in values if math.isfinite(value)]
    sizes = [abs(value) for value in finite if value]
    scientific = bool(sizes) and (
        max(sizes) >= (1e3 if dtype.short in ("f16", "c32") else 1e8)
        or (not options["suppress"] and (min(sizes) < 1e-4 or max(sizes) / min(sizes) > 1000))
    )
    digits = _scientific if scientific else _positional
    plus = "+" if sign else ""

    def split(value: float, fewest: int = 0) -> tuple[str, str, str]:
        whole, part, power = digits(abs(value), dtype, options["precision"], fewest)
        return ("-" if math.copysign(1, value) < 0 else plus) + whole, part, power

    # By bit pattern: 0.0 and -0.0 are equal and look different.
    texts = {value.hex(): split(value) for value in finite}
    left = max((len(whole) for whole, _, _ in texts.values()), default=0)
    right = max((len(part) for _, part, _ in texts.values()), default=0)
    if scientific:  # all get as many digits as the longest: true ones, not zeros
        texts = {key: split(float.fromhex(key), right) for key in texts}
    exponent = max((len(power) for _, _, power in texts.values()), default=0)
    others = {
        value.hex(): plus + "nan" if value != value else f"{value:{plus}}"
        for value in values
        if not math.isfinite(value)
    }
    left = max([left, *(len(text) - right - 1 - exponent for text in others.values())])

    def write(value: float) -> str:
        key = value.hex()
        if key not in texts:
            return others[key].rjust(left + 1 + right + exponent)
        whole, part, power = texts[key]
        if scientific:
            return f"{whole.rjust(left)}.{part.ljust(right, '0')}{power[:2]}{power[2:].zfill(exponent - 2)}"
        return f"{whole.rjust(left)}.{part.ljust(right)}"

    return write


# Bits after the leading one, and the exponent of the smallest normal number.
_FORMATS = {"f8": (3, -6), "f16": (10, -14), "bf16": (7, -126), "f32": (23, -126), "f64": (52, -1022)}
_PARTS = {"c16": "f8", "c32": "f16", "c64": "f32", "c128": "f64"}


def _shortest(value: float, dtype: Any) -> Decimal:
    """The number with the fewest digits that lies closer to `value` than to its neighbours in `dtype`.

    The idea is that of Steele and White, How to print floating-point numbers accurately (1990).
    """
    from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal  # loaded by the first float that is printed

    exact = Decimal(value)
    if not value:
        return exact
    bits, lowest = _FORMATS[_PARTS.get(dtype.short, dtype.short)]
    fraction, power = math.frexp(value)
    above = Decimal(2) ** (max(power - 1, lowest) - bits - 1)  # half the distance to the next number
    below = above / 2 if fraction == 0.5 and power - 1 > lowest else above
    for count in range(1, 18):
        step = Decimal(1).scaleb(exact.adjusted() - count + 1)
        low = (exact / step).to_integral_value(ROUND_DOWN) * step
        high = low + step
        fits_low, fits_high = exact - low < below, high - exact < above
        if fits_low and fits_high:
            return (exact / step).to_integral_value(ROUND_HALF_EVEN) * step
        if fits_low or fits_high:
            return low if fits_low else high
    return Decimal(repr(value))


def _positional(value: float, dtype: Any, precision: int, fewest: int) -> tuple[str, str, str]:
    """Digits before and after the point, and no exponent."""
    from decimal import ROUND_HALF_EVEN, Decimal, localcontext

    with localcontext() as context:
        context.prec = _EXACT
        number = _shortest(value, dtype).normalize()
        if -int(number.as_tuple().exponent) > precision:
            number = Decimal(value).quantize(Decimal(1).scaleb(-precision), ROUND_HALF_EVEN)
        whole, _, part = f"{number:f}".partition(".")
    return whole, part.rstrip("0"), ""


def _scientific(value: float, dtype: Any, precision: int, fewest: int) -> tuple[str, str, str]:
    """Digits before and after the point, and the exponent."""
    from decimal import Decimal, localcontext

    with localcontext() as context:
        context.prec = _EXACT
        number = _shortest(value, dtype).normalize()
        count = len(number.as_tuple().digits) - 1
        if count > precision or count < fewest:
            text = f"{Decimal(value):.{precision if count > precision else fewest}e}"
        else:
            text = f"{number:e}"
    mantissa, _, power = text.partition("e")
    whole, _, part = mantissa.partition(".")
    exponent = int(power) if value else 0
    return whole, part.rstrip("0"), f"e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


# Enough digits for the exact value of any double, which has up to 767.
_EXACT = 800


# ---- debug -----------------------------------------------------------------------------------------


def info(tensor: Tensor) -> str:
    """Return one line with a tensor's shape, strides, dtype and device."""
    dtype = tensor.dtype
    name = _NAMES.get(dtype.name, dtype.short.upper())
    shape = "".join(f"{size} " for size in tensor.shape)
    strides = "".join(f"{step} " for step in tensor.strides)
    where = f"{tensor.device.type.upper()}:{tensor.device.index}"
    return f"Tensor: shape[ {shape}] strides[ {strides}] dtype={name} device={where}"


def debug(tensor: Tensor, filename: Any = None) -> None:
    """Print a summary and all values, or write the raw bytes to a file.

    Parameters
    ----------
    filename : str or path, optional
        The elements in row-major order, without a header, go there.

    Raises
    ------
    ArgumentTypeError
        `filename` is no path. (A number would be a file descriptor, which `open` writes to and closes.)
    OSError
        The file cannot be written.
    """
    if filename is not None:
        if not isinstance(filename, (str, bytes, PathLike)):
            raise ArgumentTypeError(f"debug: filename: expected a path, got {type(filename).__name__}")
        with open(filename, "wb") as file:
            file.write(tensor.tobytes())
        return
    print(info(tensor))
    values = tensor.tolist()
    if tensor.ndim == 0:
        print(_plain(values))
        return
    _print_rows(values, tensor.ndim)


def _print_rows(values: list[Any], depth: int) -> None:
    if depth == 1:
        print(" ".join(map(_plain, values)))
        return
    for index, row in enumerate(values):
        if depth > 2 and index:
            print()
        _print_rows(row, depth - 1)


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
