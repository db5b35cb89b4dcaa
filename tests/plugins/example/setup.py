# How the wheel is built: all that differs between plug-ins is said here.
# infinicore.build knows the rest: headers, capsule, entry point, requirement on core.
"""Build infinicore-example."""

from infinicore.build import setup_backend

setup_backend("example", vendor="Example", sources=["src/infinicore_example/backend.cpp"])
