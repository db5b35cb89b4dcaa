# A report of the conformance kit as one HTML page that needs nothing else: for the vendor's people, and for
# those whom the vendor shows it. All that it says is in the report; here it is only laid out.
"""Reports as pages."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from infinicore.schema import DTYPES
from infinicore.testing.report import MEANINGS, SIGNS, TIERS, cell, dtype_columns, findings

__all__ = ["html_page"]

_RUN = ("native", "partial", "reference")  # states of what gave results
_STATES = ("passed", "failed", "unexpected", "known", "skipped")
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #1a7f37; --bad: #cf222e;
  --some: #9a6700 }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #f85149; --some: #d29922 } }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 80rem; padding: 2rem 1.5rem }
h1 { font-size: 1.9rem; margin: 0 } h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem } p { margin: .4rem 0 }
header { border-bottom: 3px solid var(--verdict); padding-bottom: 1rem }
.verdict { color: var(--verdict); font-size: 1.15rem; font-weight: 600 }
.tier { border: 1px solid var(--line); border-radius: 1rem; padding: .1rem .8rem; white-space: nowrap }
.facts { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr));
  margin: 1.2rem 0 }
.facts div { background: var(--soft); border-radius: .5rem; padding: .6rem .9rem }
.facts b { display: block; font-size: 1.4rem; font-weight: 600 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; min-width: 30rem } th, td { padding: .2rem .6rem; text-align: left }
tr + tr > td { border-top: 1px solid var(--line) } th { font-weight: 600; white-space: nowrap }
.n { text-align: right; font-variant-numeric: tabular-nums } .c { text-align: center }
.matrix th, .matrix td { padding: .1rem .35rem }
.matrix tr > :first-child { background: Canvas; left: 0; position: sticky }
.matrix tr:hover > * { background: var(--soft) }
.passed, .native { color: var(--good) } .failed, .unexpected { color: var(--bad); font-weight: 600 }
.known, .partial, .reference { color: var(--some) } .skipped, .refused, .absent { opacity: .6 }
pre { background: var(--soft); border-radius: .5rem; margin: .3rem 0 1rem; padding: .7rem .9rem;
  white-space: pre-wrap }
summary { cursor: pointer } footer { border-top: 1px solid var(--line); margin-top: 3rem; opacity: .75 }
@media print { .scroll { overflow: visible } .matrix { font-size: 10px } }
"""


def html_page(report: dict[str, Any]) -> str:
    """Render a report."""
    backend, wrong = report["backend"], findings(report)
    title = f"{backend['name']} {backend['version']} ({backend['vendor']})"
    return "\n".join(
        [
            "<!doctype html><html lang=en><head><meta charset=utf-8>",
            '<meta name=viewport content="width=device-width, initial-scale=1">',
            f"<title>{_text(title)}: conformance</title><style>{_STYLE}",
            f":root {{ --verdict: var(--{'bad' if wrong else 'good'}) }}</style></head><body>",
            *_header(report, title, wrong),
            *_areas(report),
            *_findings(wrong),
            *_known(report),
            *_matrix(report),
            *_times(report),
            *_skipped(report),
            *_all_checks(report),
            *_footer(report),
            "</body></html>\n",
        ]
    )


def _header(report: dict[str, Any], title: str, wrong: Sequence[dict[str, Any]]) -> Iterator[str]:
    counts, devices = report["counts"], Counter(d["name"] for d in report["backend"]["devices"])
    ran = sum(counts.values()) - counts.get("skipped", 0)
    verdict = f"{_counted(len(wrong), 'finding')} in" if wrong else "No findings in"
    yield f"<header><h1>{_text(title)}</h1><p class=verdict>{verdict} {_counted(ran, 'check')}</p>"
    yield f"<p><span class=tier>{_text(report['tier'])}</span> {_text(TIERS[report['tier']])}</p></header>"
    states = Counter(facts["state"] for row in report["coverage"].values() for facts in row.values())
    tiles = [
        (", ".join(f"{n} × {name}" if n > 1 else name for name, n in devices.items()) or "–", "device"),
        (f"{counts.get('passed', 0)} / {ran}", "checks passed"),
        (f"{states['native']} / {sum(states.values())}", "combinations of dtypes have a kernel"),
        (str(sum(bool(_served(row)) for row in report["coverage"].values())), "operators have a kernel"),
    ]
    facts = "".join(f"<div><b>{_text(value)}</b>{_text(what)}</div>" for value, what in tiles)
    yield f"<div class=facts>{facts}</div>"


def _served(row: dict[str, Any]) -> list[Any]:
    return [facts for facts in row.values() if facts["state"] in ("native", "partial")]


def _areas(report: dict[str, Any]) -> Iterator[str]:
    """What was checked: a row per area."""
    areas: dict[str, Counter[str]] = {}
    seconds: Counter[str] = Counter()
    for check in report["checks"]:
        area = check["id"].partition(".")[0]
        areas.setdefault(area, Counter())[check["state"]] += 1
        seconds[area] += check["seconds"]
    states = [state for state in _STATES if state in report["counts"]]
    rows = [
        [_text(area), *(_state(counts[s], s) if counts[s] else "" for s in states), f"{seconds[area]:.1f}"]
        for area, counts in areas.items()
    ]
    yield "<h2>What was checked</h2>"
    yield _table(["area", *states, "seconds"], rows, "n")


def _findings(wrong: Sequence[dict[str, Any]]) -> Iterator[str]:
    if wrong:
        yield "<h2>Findings</h2>"
    for check in wrong:
        yield f"<p class=failed>{_text(check['id'])}</p><pre>{_text(check['message'])}</pre>"


def _known(report: dict[str, Any]) -> Iterator[str]:
    known = [check for check in report["checks"] if check["state"] == "known"]
    if known:
        yield "<h2>Known failures</h2><p>Listed by the plug-in itself, with its reasons.</p>"
        rows = [[_text(c["id"]), _text(c["message"].partition("\n")[0])] for c in known]
        yield _table(["check", "reason"], rows)


def _matrix(report: dict[str, Any]) -> Iterator[str]:
    """Operators and dtypes."""
    columns, rows = dtype_columns(report), []
    if not columns:
        return
    for operator in sorted(report["coverage"]):
        row, worst = [_text(operator)], []
        for dtype in columns:
            state, ulps = cell(report, operator, dtype)
            worst += [ulps] if ulps is not None and state in _RUN else []
            said = f"{operator}, {DTYPES[dtype][1]}: {MEANINGS[state]}" if state else ""
            said += f"; worst error {ulps:.3g} ulp" if ulps is not None and state in _RUN else ""
            row.append(f'<span class={state} title="{_text(said)}">{SIGNS[state]}</span>' if state else "")
        rows.append([*row, f"{max(worst):.3g}" if worst else ""])
    signs = (f"<span class={s}>{sign}</span> {_text(MEANINGS[s])}" for s, sign in SIGNS.items())
    yield f"<h2>Operators and dtypes</h2><p>{' &ensp; '.join(signs)}</p>"
    head = ["operator", *columns, "worst error, ulps"]
    yield _table(head, rows, "c", "matrix")


def _times(report: dict[str, Any]) -> Iterator[str]:
    measured = {name: f for name, f in report["performance"].items() if "microseconds" in f}
    copies = report["performance"].get("copies")
    if not measured and not copies:
        return

    def ratio(facts: dict[str, Any], peer: str) -> str:
        return f"{facts[peer] / facts['microseconds']:.2f}" if facts.get(peer) else ""

    yield "<h2>Times</h2>"
    if copies:
        words = ", ".join(f"{name.replace('_', ' ')} {rate:g} GB/s" for name, rate in copies.items())
        yield f"<p>Copies: {_text(words)}.</p>"
    if measured:
        yield (
            "<p>Of small calls: what is measured is mostly the way to the kernel. Beside it, how many times "
            "as fast that is as the CPU backend, and as PyTorch on the CPU.</p>"
        )
        rows = [
            [_text(name), str(f["elements"]), f"{f['microseconds']:.1f}", ratio(f, "cpu"), ratio(f, "torch")]
            for name, f in sorted(measured.items())
        ]
        yield _table(["operator", "elements", "µs", "× CPU backend", "× PyTorch"], rows, "n")


def _skipped(report: dict[str, Any]) -> Iterator[str]:
    reasons = Counter(check["message"] for check in report["checks"] if check["state"] == "skipped")
    if reasons:
        yield "<h2>Skipped</h2>"
        yield _table(["checks", "because"], [[str(n), _text(reason)] for reason, n in reasons.items()])


def _all_checks(report: dict[str, Any]) -> Iterator[str]:
    rows = [
        [_text(c["id"]), _text(c["category"]), _state(c["state"], c["state"]), f"{c['seconds']:.3f}"]
        for c in report["checks"]
    ]
    yield f"<h2>Checks</h2><details><summary>All {len(rows)} of them</summary>"
    yield _table(["check", "category", "came out", "seconds"], rows)
    yield "</details>"


def _footer(report: dict[str, Any]) -> Iterator[str]:
    machine, options = report["machine"], report["options"]
    chosen = "all operators" if options["operators"] is None else ", ".join(options["operators"]) or "none"
    yield (
        f"<footer><p>infinicore {_text(report['infinicore'])}, {_text(report['date'])}, "
        f"{report['seconds']:.0f} s on {_text(machine['system'])} with {machine['cpus']} processors, "
        f"Python {_text(machine['python'])}.</p><p>Operators: {_text(chosen)}. Categories: "
        f"{_text(', '.join(options['tests']))}. {options['iterations']} drawn calls per operator and dtypes, "
        f"{options['threads']} threads, seed {options['seed']}.</p></footer>"
    )


# ---- parts of a page -----------------------------------------------------------------------------


def _table(head: Iterable[str], rows: Iterable[Sequence[str]], align: str = "", kind: str = "") -> str:
    """Lay out a table; `align` is the class of all cells but a row's first."""

    def line(tag: str, words: Iterable[str]) -> str:
        cells = (f'<{tag} class="{align if i else ""}">{word}</{tag}>' for i, word in enumerate(words))
        return f"<tr>{''.join(cells)}</tr>"

    lines = [line("th", map(_text, head)), *(line("td", row) for row in rows)]
    return f'<div class=scroll><table class="{kind}">{"".join(lines)}</table></div>'


def _state(word: object, state: str) -> str:
    return f"<span class={state}>{_text(word)}</span>"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _text(value: object) -> str:
    return html.escape(str(value))
