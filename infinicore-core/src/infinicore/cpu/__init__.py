# The built-in CPU backend. Its C++ sources lie here; they become lib/libinfinicore_cpu.so.
"""The backend ``cpu``: part of infinicore-core, and reached through the same plug-in ABI as every other."""
