# Questions about layouts: for Cython only, nothing here is for Python.
