# The example once more, with the ABI header of minor 0 before core's.
# Its tables end where those of that minor ended.
"""Build the plug-in stale."""

from infinicore.build import setup_backend

setup_backend(
    "stale",
    vendor="Stale",
    sources=["../example/src/infinicore_example/backend.cpp"],
    include_dirs=["include"],
)
