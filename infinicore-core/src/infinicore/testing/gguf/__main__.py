# `python -m infinicore.testing.gguf generate gemm -o gemm.gguf` writes a file of operator cases; `run` in the
# place of `generate` checks a library with one, as the command infiniop-test does.
"""Write and run operator cases."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from infinicore.schema import OPERATORS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["run"]:
        from infinicore.testing.gguf.run import main as run

        return run(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="python -m infinicore.testing.gguf",
        description="Write operator cases to GGUF files. `run FILE ...` is the command infiniop-test.",
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("generate", help="draw cases from the signatures of operators")
    command.add_argument("operators", nargs="*", metavar="OPERATOR", help="gemm add ...")
    command.add_argument("--every", action="store_true", help="all operators")
    command.add_argument(
        "-o", "--output", metavar="FILE", help="one file for all; by default OPERATOR.gguf each"
    )
    command.add_argument("--cases", type=int, default=16, help="how many of each operator (%(default)s)")
    command.add_argument(
        "--dimensions", type=_numbers, default=(), metavar="N,N", help="sizes to draw from, such as 64,1024"
    )
    command.add_argument("--seed", type=int, default=0, help="another one, other cases")
    options = parser.parse_args(arguments)
    names = sorted(OPERATORS) if options.every else options.operators
    if not names:
        command.error("name an operator, or give --every")
    if unknown := [name for name in names if name not in OPERATORS]:
        command.error(f"no such operator: {', '.join(unknown)}")
    _generate(names, options)
    return 0


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _generate(names: Sequence[str], options: argparse.Namespace) -> None:
    from infinicore.testing.gguf import write
    from infinicore.testing.gguf.generate import generate

    cases = {name: generate(name, options.cases, options.seed, options.dimensions) for name in names}
    if options.output:
        write(options.output, [case for found in cases.values() for case in found])
        count = sum(map(len, cases.values()))
        print(f"{options.output}: {_counted(count, 'case')} of {_counted(len(names), 'operator')}")
        return
    for name, found in cases.items():
        write(f"{name}.gguf", found)
        print(f"{name}.gguf: {_counted(len(found), 'case')}")


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


if __name__ == "__main__":
    raise SystemExit(main())
