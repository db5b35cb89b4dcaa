# A backend of its own around the example's runtime and kernels.
# Its tables have members that core's header does not.
"""Build the plug-in newer."""

from infinicore.build import setup_backend

setup_backend(
    "newer",
    vendor="Newer",
    sources=["src/infinicore_newer/backend.cpp"],
    include_dirs=["../example/src/infinicore_example"],
)
