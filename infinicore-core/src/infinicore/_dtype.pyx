# The 20 element types of the public enumeration (INVALID has no object): one interned `dtype` each,
# the names they answer to, and exact conversion of one element to and from a Python scalar.
from cpython.complex cimport PyComplex_Check
from cpython.float cimport PyFloat_Check
from cpython.long cimport PyLong_Check
from libc.math cimport INFINITY, NAN, frexp, isinf, isnan, ldexp, nearbyint, signbit
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

import sys

from infinicore.errors import ArgumentTypeError, DTypeError, InvalidArgument


cdef enum:
    COUNT = 20

cdef list _by_code = [None] * COUNT      # infiniDtype_t -> dtype
cdef dict _by_name = {}                  # every accepted spelling -> dtype
cdef list _limits = [None] * COUNT       # infiniDtype_t -> (lowest, highest) of integer types
cdef bint _sealed = False                # the table is complete: no further dtype object may be made


cdef class dtype:
    """An element type, such as ``infinicore.float16``.

    There is one object per type: compare with ``is`` or ``==``, use it as a dictionary key.
    ``infinicore.dtype`` cannot be called; take the objects from the ``infinicore`` namespace.

    Attributes
    ----------
    name : str
        Canonical name, ``"float16"``.
    short : str
        Name in operator signatures, ``"f16"``.
    code : int
        The number in ``infiniDtype_t``.
    itemsize : int
        Bytes of one element.
    kind : str
        ``"b"`` bool, ``"i"`` signed, ``"u"`` unsigned, ``"f"`` float, ``"c"`` complex, ``"B"`` raw byte.

    Examples
    --------
    >>> import infinicore as ic
    >>> str(ic.float16), ic.float16.itemsize, ic.half is ic.float16
    ('infinicore.float16', 2, True)
    >>> {ic.int32: "numbers"}[ic.ones((2,), dtype="int32", device="cpu").dtype]
    'numbers'
    """

    def __cinit__(self, str name="", str short="", int code=0, int itemsize=0, str kind=""):
        if _sealed:
            raise DTypeError("dtype: objects are interned and cannot be created; use infinicore.float32 and "
                             "the like")
        self.name = name
        self.short = short
        self.code = code
        self.itemsize = itemsize
        self.kind = kind

    def __repr__(self):
        return f"infinicore.{self.name}"

    def __str__(self):
        return f"infinicore.{self.name}"

    def __reduce__(self):
        return get, (self.name,)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    @property
    def _underlying(self):
        """The native object behind this one: itself (kept for programs written for the old bindings)."""
        return self

    @property
    def is_floating_point(self):
        """Whether it is a real floating-point type."""
        return self.kind == "f"

    @property
    def is_complex(self):
        """Whether it is a complex type."""
        return self.kind == "c"

    @property
    def is_signed(self):
        """Whether it can hold negative numbers."""
        return self.kind in ("i", "f", "c")


def _fill():
    global _sealed
    cdef dtype entry
    table = [
        ("byte", "byte", 1, "B"), ("bool", "bool", 1, "b"),
        ("int8", "i8", 1, "i"), ("int16", "i16", 2, "i"), ("int32", "i32", 4, "i"), ("int64", "i64", 8, "i"),
        ("uint8", "u8", 1, "u"), ("uint16", "u16", 2, "u"), ("uint32", "u32", 4, "u"),
        ("uint64", "u64", 8, "u"),
        ("float8", "f8", 1, "f"), ("float16", "f16", 2, "f"), ("float32", "f32", 4, "f"),
        ("float64", "f64", 8, "f"),
        ("complex16", "c16", 2, "c"), ("complex32", "c32", 4, "c"), ("complex64", "c64", 8, "c"),
        ("complex128", "c128", 16, "c"), ("bfloat16", "bf16", 2, "f"),
    ]
    for code, (name, short, itemsize, kind) in enumerate(table, 1):
        entry = dtype(name, short, code, itemsize, kind)
        _by_code[code] = entry
        bits = 8 * itemsize
        if kind in "iuB":
            half = 1 << (bits - 1)
            _limits[code] = (-half, half - 1) if kind == "i" else (0, 2 * half - 1)
        _by_name[name] = entry
        _by_name[short] = entry
        _by_name["infinicore." + name] = entry
    for alias, name in ALIASES.items():
        _by_name[alias] = _by_name[name]
        _by_name["infinicore." + alias] = _by_name[name]
    _sealed = True


#: Further public names, as PyTorch spells them; ``infinicore.float`` is float32 and ``infinicore.int`` int32.
ALIASES = {
    "half": "float16", "float": "float32", "double": "float64",
    "short": "int16", "int": "int32", "long": "int64",
    "chalf": "complex32", "cfloat": "complex64", "cdouble": "complex128", "float8_e4m3fn": "float8",
}
_fill()
#: Every dtype, in the order of ``infiniDtype_t``.
DTYPES = tuple(_by_code[1:])


cdef dtype dtype_of(int code):
    if code <= 0 or code >= COUNT:
        raise DTypeError(f"dtype: {code} is not the number of an element type (1..{COUNT - 1})")
    return <dtype>_by_code[code]


cdef dtype as_dtype(object value):
    if isinstance(value, dtype):
        return <dtype>value
    found = None
    if isinstance(value, str):
        found = _by_name.get(value)
    elif isinstance(value, type) and value in _PYTHON_TYPES:
        found = _by_name[_PYTHON_TYPES[value]]
    else:
        found = _foreign(value)
    if found is None:
        raise DTypeError(f"dtype: {value!r} does not name an element type; infinicore has "
                         f"{', '.join([entry.name for entry in DTYPES])}")
    return <dtype>found


_PYTHON_TYPES = {bool: "bool", int: "int64", float: "float64", complex: "complex128"}


def _foreign(value):
    """A NumPy or torch dtype, recognised without importing either."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, getattr(torch, "dtype", ())):
        return _by_name.get(str(value).partition(".")[2])
    numpy = sys.modules.get("numpy")
    if numpy is not None and (isinstance(value, numpy.dtype)
                              or isinstance(value, type) and issubclass(value, numpy.generic)):
        return _by_name.get(numpy.dtype(value).name)
    return None


def get(value):
    """The dtype that `value` names: a dtype, a name, a NumPy or torch dtype, or a Python number type.

    Raises
    ------
    DTypeError
        If it names none.
    """
    return as_dtype(value)


def of(int code):
    """The dtype with the number `code` of ``infiniDtype_t``."""
    return dtype_of(code)


# ---- one element <-> Python scalar -----------------------------------------------------------------

cdef double decode_small(uint32_t bits, int exponent_bits, int mantissa_bits, bint finite) noexcept nogil:
    """A float of few bits to double, exactly. `finite`: no infinities, only all ones is NaN (e4m3fn)."""
    cdef int bias = (1 << (exponent_bits - 1)) - 1
    cdef uint32_t top = (1 << exponent_bits) - 1
    cdef uint32_t exponent = (bits >> mantissa_bits) & top
    cdef uint32_t mantissa = bits & ((1 << mantissa_bits) - 1)
    cdef double value
    if exponent == top and finite and mantissa == (1u << mantissa_bits) - 1:
        value = NAN
    elif exponent == top and not finite:
        value = NAN if mantissa else INFINITY
    elif exponent == 0:
        value = ldexp(mantissa, 1 - bias - mantissa_bits)
    else:
        value = ldexp((1 << mantissa_bits) + mantissa, <int>exponent - bias - mantissa_bits)
    return -value if (bits >> (exponent_bits + mantissa_bits)) & 1 else value


cdef uint32_t encode_small(double value, int exponent_bits, int mantissa_bits, bint finite) noexcept nogil:
    """Round a double to a float of few bits, to nearest even, in one rounding."""
    cdef int bias = (1 << (exponent_bits - 1)) - 1
    cdef uint32_t sign = <uint32_t>(1 if signbit(value) else 0) << (exponent_bits + mantissa_bits)
    cdef uint32_t top = (1 << exponent_bits) - 1
    cdef uint32_t overflow, nan
    cdef int exponent
    cdef uint64_t mantissa
    if finite:                                   # what has no infinity overflows to NaN
        nan = (top << mantissa_bits) | ((1 << mantissa_bits) - 1)
        overflow = nan
    else:
        nan = (top << mantissa_bits) | (1 << (mantissa_bits - 1))
        overflow = top << mantissa_bits
    if isnan(value):
        return sign | nan
    if isinf(value):
        return sign | overflow
    if value == 0:
        return sign
    value = -value if value < 0 else value
    frexp(value, &exponent)                      # value = f * 2**exponent, 0.5 <= f < 1
    exponent -= 1
    if exponent < 1 - bias:                      # subnormal: one fixed scale
        mantissa = <uint64_t>nearbyint(ldexp(value, bias - 1 + mantissa_bits))
        return sign | <uint32_t>mantissa         # a carry becomes the smallest normal number by itself
    if exponent > bias + 1:
        return sign | overflow
    mantissa = <uint64_t>nearbyint(ldexp(value, mantissa_bits - exponent))
    mantissa += <uint64_t>(exponent + bias - 1) << mantissa_bits
    if mantissa >= overflow:
        return sign | overflow
    return sign | <uint32_t>mantissa


cdef inline double decode_part(int code, const void *memory) noexcept nogil:
    """One real number of float type `code`."""
    cdef uint16_t half
    cdef float single
    cdef double double_
    if code == 11:
        return decode_small((<const uint8_t *>memory)[0], 4, 3, True)
    if code == 12 or code == 19:
        memcpy(&half, memory, 2)
        return decode_small(half, 5, 10, False) if code == 12 else decode_small(half, 8, 7, False)
    if code == 13:
        memcpy(&single, memory, 4)
        return single
    memcpy(&double_, memory, 8)
    return double_


cdef void encode_part(int code, double value, void *memory) noexcept nogil:
    cdef uint16_t half
    cdef float single
    if code == 11:
        (<uint8_t *>memory)[0] = <uint8_t>encode_small(value, 4, 3, True)
    elif code == 12 or code == 19:
        half = <uint16_t>(encode_small(value, 5, 10, False) if code == 12
                          else encode_small(value, 8, 7, False))
        memcpy(memory, &half, 2)
    elif code == 13:
        single = <float>value
        memcpy(memory, &single, 4)
    else:
        memcpy(memory, &value, 8)


cdef object decode(int code, const void *memory):
    cdef int part
    cdef int64_t i64
    cdef uint64_t u64
    cdef int32_t i32
    cdef uint32_t u32
    cdef int16_t i16
    cdef uint16_t u16
    if 15 <= code <= 18:
        part = code - 4                          # complex of code c is a pair of the float of code c - 4
        return complex(decode_part(part, memory),
                       decode_part(part, <const char *>memory + (1 << (part - 11))))
    if 11 <= code <= 19:
        return decode_part(code, memory)
    if code == 2:
        return (<const uint8_t *>memory)[0] != 0
    if code == 1 or code == 7:
        return (<const uint8_t *>memory)[0]
    if code == 3:
        return (<const int8_t *>memory)[0]
    if code == 4:
        memcpy(&i16, memory, 2)
        return i16
    if code == 5:
        memcpy(&i32, memory, 4)
        return i32
    if code == 6:
        memcpy(&i64, memory, 8)
        return i64
    if code == 8:
        memcpy(&u16, memory, 2)
        return u16
    if code == 9:
        memcpy(&u32, memory, 4)
        return u32
    memcpy(&u64, memory, 8)
    return u64


cdef object scalar(object value):
    if PyLong_Check(value) or PyFloat_Check(value) or PyComplex_Check(value):
        return value
    kind = getattr(getattr(value, "dtype", None), "kind", None)       # a NumPy scalar or 0-d array
    if kind is not None and getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
        if isinstance(value, (int, float, complex)):
            return value
        return float(value)                                           # bfloat16 and float8 of ml_dtypes
    if getattr(value, "ndim", 0) != 0:                                # an array is no number
        return None
    for convert in ("__index__", "__float__"):                        # both exist where only one works
        if hasattr(type(value), convert):
            try:
                return getattr(value, convert)()
            except TypeError:
                pass
    return None


cdef int encode(dtype target, object value, void *memory, str where) except -1:
    """Write a Python scalar as one element; errors begin with `where`, an operator and its argument.

    An integer that does not fit and a float with a fraction for an integer type are errors; floats round
    to nearest even.
    """
    cdef int code = target.code
    cdef int part
    cdef int64_t i64
    cdef uint64_t u64
    number = scalar(value)
    if number is None:
        raise ArgumentTypeError(f"{where}: expected a number, got {type(value).__name__} {value!r:.80}")
    if PyComplex_Check(number) and target.kind != "c":
        raise DTypeError(f"{where}: the complex number {number!r} cannot be stored in {target!r}")
    if target.kind == "c":
        part = code - 4
        number = complex(number)
        encode_part(part, number.real, memory)
        encode_part(part, number.imag, <char *>memory + (1 << (part - 11)))
        return 0
    if target.kind == "f":
        try:
            encode_part(code, <double>float(number), memory)
        except OverflowError:
            raise InvalidArgument(f"{where}: the integer {number} is too large for {target!r}") from None
        return 0
    if code == 2:
        (<uint8_t *>memory)[0] = 1 if number else 0
        return 0
    if PyFloat_Check(number):
        if number != number or number in (float("inf"), -float("inf")) or number != int(number):
            raise DTypeError(f"{where}: the float {number!r} has no exact value of type {target!r}; "
                             "convert explicitly")
        number = int(number)
    low, high = <tuple>_limits[code]
    if not low <= number <= high:
        raise InvalidArgument(f"{where}: {number} does not fit into {target!r} ({low} to {high})")
    if target.kind == "i":                       # little-endian: the low bytes come first
        i64 = number
        memcpy(memory, &i64, target.itemsize)
    else:
        u64 = number
        memcpy(memory, &u64, target.itemsize)
    return 0
