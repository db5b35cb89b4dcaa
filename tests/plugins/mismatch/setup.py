# The example once more, with another fingerprint for one of its operators.
# That is what a changed signature looks like to core.
"""Build the plug-in mismatch."""

from infinicore.build import setup_backend

setup_backend(
    "mismatch",
    vendor="Mismatch",
    sources=["../example/src/infinicore_example/backend.cpp"],
    include_dirs=["include"],
)
