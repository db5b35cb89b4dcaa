# The hand-off: compiled into every vendor wheel (and into the cpu backend) from this one file, next to
# the plug-in's own sources, it offers infinicore_backend() to Python as the attribute `capsule`.
"""A backend plug-in of infinicore; ``capsule`` holds its tables."""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "infinicore/abi.h":
    ctypedef struct infini_backend
    const infini_backend *infinicore_backend()
    # A string literal in the header: its address outlives the capsule, as capsules demand of their names.
    const char *INFINI_BACKEND_CAPSULE

capsule = PyCapsule_New(<void *>infinicore_backend(), INFINI_BACKEND_CAPSULE, NULL)
