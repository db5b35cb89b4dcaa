# The checks, in the order in which they run: what everything else stands on comes first.
# A module registers its checks when it is imported.
"""What the conformance kit checks."""

from infinicore.testing.checks import (  # noqa: I001  (the order is the order of the report)
    runtime,
    collectives,
    operators,
    special,
    lifecycle,
    graphs,
    modules,
    exceptions,
    threads,
    leaks,
    stress,
    performance,
)

__all__ = [
    "collectives",
    "exceptions",
    "graphs",
    "leaks",
    "lifecycle",
    "modules",
    "operators",
    "performance",
    "runtime",
    "special",
    "stress",
    "threads",
]
