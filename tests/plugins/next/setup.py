# The example once more, with the header of a major that does not exist yet.
# Its capsule and its tables say 2.
"""Build the plug-in next."""

from infinicore.build import setup_backend

setup_backend(
    "next", vendor="Next", sources=["../example/src/infinicore_example/backend.cpp"], include_dirs=["include"]
)
