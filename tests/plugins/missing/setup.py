# A backend of its own around the example's runtime and kernels.
# Its open() needs a driver library that no machine has.
"""Build the plug-in missing."""

from infinicore.build import setup_backend

setup_backend(
    "missing",
    vendor="Missing",
    sources=["src/infinicore_missing/backend.cpp"],
    include_dirs=["../example/src/infinicore_example"],
)
