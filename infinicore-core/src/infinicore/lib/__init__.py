# Where the C libraries land in a wheel, and `_infinicore`: the names that the old native module had.
"""Native names."""
