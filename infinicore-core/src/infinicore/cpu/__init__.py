# The built-in CPU backend. Its C++ sources lie here; the compiled module is `infinicore.cpu._backend`.
"""The backend ``cpu``: part of infinicore-core, and reached through the same plug-in ABI as every other."""
