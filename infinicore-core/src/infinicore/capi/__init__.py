# The C API: C++ of libinfinirt, libinfiniop and libinfiniccl, and what renders their functions from schemas.
# Only build scripts, tests and the ctypes bindings import this; programs that run operators never do.
"""The public C API, as text: prototypes, headers, and the tables behind the functions."""
