# The 20 element types: one interned object each.
cdef class dtype:
    cdef readonly str name       # "float16"
    cdef readonly str short      # "f16", as operator signatures write it
    cdef readonly int code       # infiniDtype_t
    cdef readonly int itemsize   # bytes
    cdef readonly str kind       # "b" bool, "i" int, "u" unsigned, "f" float, "c" complex, "B" byte

# By infiniDtype_t; raises DTypeError for INVALID or unknown codes.
cdef dtype dtype_of(int code)

# Anything that names a dtype (dtype, str, NumPy or torch dtype, Python type) to a dtype.
cdef dtype as_dtype(object value)

# One element at `memory` to a Python scalar, by infiniDtype_t; exact.
cdef object decode(int code, const void *memory)

# Write the Python (or NumPy) scalar `value` as one element; raises where it has no such value.
cdef int encode(dtype target, object value, void *memory, str where) except -1

# A Python int, float or complex for anything that is one number; None for everything else.
cdef object scalar(object value)

# Real part `value` of float type `code` (f8 f16 f32 f64 bf16), rounded to nearest even.
cdef void encode_part(int code, double value, void *memory) noexcept nogil
