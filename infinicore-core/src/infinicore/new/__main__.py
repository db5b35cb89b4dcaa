# `python -m infinicore.new operator NAME` and `python -m infinicore.new backend NAME`.
# Prints what was written, and what to do next.
"""Begin an operator or a backend."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from infinicore.errors import InvalidArgument
from infinicore.new import new_backend, new_operator

OPERATOR = """\
It works: build and test it, then put your formula where squareplus stands.
  cd infinicore-core && INFINICORE_BUILD_ONLY=cpu,sim,capi python setup.py build_ext --inplace
  pytest tests/operators tests/core tests/capi -k {name}
Its page of the documentation is its docstring: nox -s docs. The guide is docs/writing-an-operator.md"""
BACKEND = """\
It works: build, look at it and test it, then put calls of your driver into runtime.hpp.
  pip install ./infinicore-{name}
  python -m infinicore
  pytest infinicore-{name}/tests
README.md is its page of the documentation. The guide is docs/writing-a-backend.md"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 2 where the name cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m infinicore.new", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    operator = commands.add_parser("operator", help="an operator of core: signature, CPU kernel, tests")
    operator.add_argument("name", help="lower case, words joined by underscores")
    operator.add_argument("--tree", default=".", help="the source tree of infinicore (default: here)")
    backend = commands.add_parser("backend", help="a plug-in wheel for a device")
    backend.add_argument("name", help="the device string: lower-case letters and digits")
    backend.add_argument("--into", default=".", help="where its folder is made (default: here)")
    backend.add_argument("--vendor", help="who makes the device")
    options = parser.parse_args(arguments)
    try:
        if options.what == "operator":
            written, advice = new_operator(options.name, options.tree), OPERATOR
        else:
            written, advice = new_backend(options.name, options.into, options.vendor), BACKEND
    except InvalidArgument as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in written:
        print(f"wrote {os.path.relpath(path)}")
    print(advice.format(name=options.name))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
