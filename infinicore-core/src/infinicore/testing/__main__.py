# The command that certifies a plug-in: `python -m infinicore.testing --backend NAME`, also installed as
# `infinicore-test`. It ends with 0: nothing was found, 1: something was, 2: not everything could be checked.
"""Check a backend, and write a report on it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import infinicore as ic
from infinicore.discovery import ALIASES, NUMBERS
from infinicore.testing import known_failures, report
from infinicore.testing.page import html_page
from infinicore.testing.runner import TIMEOUT, run_here, run_isolated
from infinicore.testing.suite import CATEGORIES, NEEDS_HYPOTHESIS, Options, Outcome, Target, collect

__all__ = ["main"]


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="infinicore-test", description=__doc__, epilog="See docs/conformance.md for what is checked."
    )
    made.add_argument(
        "--backend", metavar="NAME", help="device string, with or without an index: cuda, sim:1"
    )
    for name in sorted({*NUMBERS, *ALIASES}):  # as existing programs spell it
        made.add_argument(
            f"--{name}", dest="backend", action="store_const", const=name, help=argparse.SUPPRESS
        )
    made.add_argument(
        "--test",
        action="append",
        choices=[*CATEGORIES, "all"],
        help="a category, several times for several; all without it",
    )
    made.add_argument("--operators", nargs="+", metavar="OP", help="only these, parted by spaces or commas")
    made.add_argument("--threads", type=int, default=4, help="threads at once (4)")
    made.add_argument("--iterations", type=int, default=5, help="drawn calls per operator and dtypes (5)")
    made.add_argument("--seed", type=int, default=0, help="another number draws other calls (0)")
    made.add_argument("--tier", choices=sorted(report.TIERS), help="what the results come from")
    made.add_argument("--known-failures", metavar="FILE", help="instead of the file that the plug-in ships")
    made.add_argument("--json", metavar="FILE", help="write the report; - is standard output")
    made.add_argument("--html", metavar="FILE", help="write the report as a page")
    made.add_argument("--timeout", type=float, default=TIMEOUT, help=f"seconds for one check ({TIMEOUT:g})")
    made.add_argument("--in-process", action="store_true", help="run in this process, for debuggers")
    made.add_argument("--list", action="store_true", help="list the checks, and run none")
    return made


class Terminal:
    """Shows progress: a line that changes on a terminal, a line per group of checks elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.live = stream, sys.stderr.isatty()
        self.group, self.done, self.found = "", 0, 0

    def __call__(self, outcome: Outcome, number: int, total: int) -> None:
        """Show what came of a check."""
        if outcome.is_finding:
            self.found += 1
            self.clear()
            message = outcome.message.replace("\n", "\n    ")
            print(f"{outcome.state.upper()} {outcome.id}\n    {message}", file=self.stream, flush=True)
        group = ".".join(outcome.id.split(".")[:2])
        if self.live:
            print(
                f"\r\033[K[{number}/{total}] {group}  {self.found} findings",
                end="",
                file=sys.stderr,
                flush=True,
            )
        elif group != self.group and group.partition(".")[0] != self.group.partition(".")[0]:
            print(f"[{number}/{total}] {group.partition('.')[0]} ...", file=sys.stderr, flush=True)
        self.group = group

    def clear(self) -> None:
        """Take the line of progress away."""
        if self.live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    command = parser()
    given = command.parse_args(arguments)
    if given.backend is None:
        command.error("which backend? --backend NAME")
    if given.iterations < 1 or given.threads < 1:
        command.error("--iterations and --threads are 1 or more")
    chosen = CATEGORIES if not given.test or "all" in given.test else tuple(dict.fromkeys(given.test))
    options = Options(
        given.backend,
        tuple(filter(None, ",".join(given.operators).split(","))) if given.operators else None,
        chosen,
        given.threads,
        given.iterations,
        given.seed,
    )
    try:
        target = Target(options)
        target.chosen()
        report.tier_of(target.name, given.tier)
        plugin = target.backend.plugin
        path = given.known_failures or (known_failures.find(plugin.module) if plugin is not None else None)
        known = known_failures.load(path)
        if given.list:
            print("\n".join(f"{item.id}  ({item.category})" for item in collect(target)))
            return 0
    except ic.Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    stream = sys.stderr if given.json == "-" else sys.stdout
    terminal, started = Terminal(stream), time.monotonic()
    try:
        if given.in_process:
            outcomes = run_here(options, known, terminal)
        else:
            outcomes = run_isolated(
                options, known, None if path is None else str(path), terminal, given.timeout
            )
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    terminal.clear()
    made = report.make(options, outcomes, known, tier=given.tier, seconds=time.monotonic() - started)
    if given.json:
        text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
        sys.stdout.write(text) if given.json == "-" else Path(given.json).write_text(text, encoding="utf-8")
    if given.html:
        Path(given.html).write_text(html_page(made), encoding="utf-8")
    for item in report.findings(made):
        print(f"{item['state']}: {item['id']}", file=stream)
    print(report.summary(made), file=stream)
    if made["findings"]:
        return 1
    return 2 if any(outcome.message == NEEDS_HYPOTHESIS for outcome in outcomes) else 0


if __name__ == "__main__":
    raise SystemExit(main())
