# Status codes and the thread's last error message: for Cython only, nothing here is for Python.
