# What a run says: one Markdown table with a verdict per row, the same as JSON, and a page that runs are
# appended to.
"""Tables of the GPU benchmark."""

from __future__ import annotations

import datetime
import json
import math
import platform
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from measuring import Times

import infinicore as ic

#: Ratio of geometric means that the memory-bound rows have to reach, beside their shares of the bandwidth.
MEMORY_SPEEDUP = 1.2
NO_RUN = "*No run has been recorded yet.*\n"
HEADER = f"""# Hardware

Runs of `benchmarks/gpu` on real devices, oldest first. Ratios are of one run; results are checked before they
are timed.

{NO_RUN}"""


def bytes_text(count: float) -> str:
    return f"{count / (1 << 20):.0f} MiB" if count >= 1 << 20 else f"{count:.0f} B"


@dataclass
class Result:
    """What came of a row."""

    group: str
    name: str
    size: str
    ours: Times | None = None
    theirs: Times | None = None
    moved: float = 0
    flops: float = 0
    bandwidth: float = 0
    distance: float = 0  # to the reference
    target: tuple[str, float] | None = None
    against: tuple[str, float, float] | None = None  # something else than copy or torch: reached, wanted
    error: str = ""

    @property
    def share(self) -> float:
        """The share of a copy's bandwidth; NaN where that is not what limits."""
        known = self.ours is not None and self.moved > 0 and self.bandwidth > 0
        return self.moved / self.ours.median / self.bandwidth if known and self.ours else math.nan

    @property
    def speedup(self) -> float:
        """PyTorch's time over ours; NaN without PyTorch."""
        return self.theirs.median / self.ours.median if self.ours and self.theirs else math.nan

    @property
    def verdict(self) -> str:
        """Say whether the target is reached, in a word."""
        if self.error:
            return "**failed**"
        if self.against is not None:
            reached, wanted = self.against[1:]
        elif self.target is not None:
            reached, wanted = (self.share if self.target[0] == "copy" else self.speedup), self.target[1]
        else:
            return ""
        if math.isnan(reached):
            return "not measured"
        return "reached" if reached >= wanted else f"missed: {reached / wanted:.2f} of it"

    def cells(self) -> list[str]:
        """Give the cells of its line in the table."""
        ms = lambda t: f"{t.median * 1e3:.4g} ({t.least * 1e3:.4g})" if t else ""
        number = lambda x, text: "" if math.isnan(x) else text.format(x)
        rate = ""
        if self.ours and self.flops and not self.moved:
            rate = f"{self.flops / self.ours.median / 1e12:.1f} TFLOP/s"
        elif self.ours and self.moved:
            rate = f"{self.moved / self.ours.median / 1e9:.0f} GB/s"
        target = ""
        if self.against is not None:
            target = f"≥ {self.against[2]:g} × {self.against[0]} (is {self.against[1]:.2f})"
        elif self.target is not None:
            target = f"≥ {self.target[1]:g} × {self.target[0]}"
        cells = [f"{self.group}: {self.name}", self.size, ms(self.ours), rate, number(self.share, "{:.0%}")]
        return [*cells, ms(self.theirs), number(self.speedup, "{:.2f}"), target, self.verdict]

    def line(self) -> str:
        """Say it in one line."""
        if self.error:
            return f"{self.group}: {self.name}: {self.error}"
        return " | ".join(filter(None, self.cells()))


COLUMNS = ["what", "size", "ours, ms (least)", "rate", "of copy"]
COLUMNS += ["torch, ms (least)", "torch / ours", "target", "verdict"]


def now() -> str:
    return f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"


@dataclass
class Run:
    """All results of a run, and what they were measured on."""

    device: Any
    torch: str
    smoke: bool
    bandwidth: float = 0
    rows: int = 0  # that were tried; one may have several results
    results: list[Result] = field(default_factory=list)
    date: str = field(default_factory=now)

    def add(self, result: Result) -> None:
        self.results.append(result)

    def resume(self, text: str) -> None:
        """Go on with what another process measured, as `json` wrote it."""
        kept = json.loads(text)
        self.bandwidth, self.rows, self.date = kept["bandwidth"], kept["rows"], kept["date"]
        for row in kept["results"]:
            known = {item.name: row[item.name] for item in fields(Result)}
            for library in ("ours", "theirs"):
                known[library] = known[library] and Times(**known[library])
            for pair in ("target", "against"):
                known[pair] = known[pair] and tuple(known[pair])
            self.add(Result(**known))

    @property
    def failed(self) -> bool:
        return any(result.error for result in self.results)

    def speedup(self) -> float:
        """Geometric mean over the memory-bound rows; NaN without PyTorch."""
        ratios = [r.speedup for r in self.results if r.group == "memory" and r.target]
        ratios = [ratio for ratio in ratios if not math.isnan(ratio)]
        return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan

    def text(self) -> str:
        """Render Markdown."""
        device = self.device
        title = f"{device['name']}, {self.date}"
        if self.smoke:
            title += ": a smoke run, whose figures mean nothing"
        facts = [
            f"Device: {device['name']} ({device['architecture']}, {device['compute_units']} units, "
            f"{device['memory_bytes'] / 2**30:.0f} GiB)",
            f"Driver {device['driver']}, runtime {device['runtime']}",
            f"infinicore {ic.__version__}, Python {platform.python_version()}; PyTorch: {self.torch}",
            f"Copy from device to device: {self.bandwidth / 1e9:.0f} GB/s, bytes read and written. "
            "Median time of a call and, in parentheses, the least. bf16 unless a row says otherwise.",
        ]
        table = [COLUMNS, ["---"] * len(COLUMNS), *(result.cells() for result in self.results)]
        lines = [f"## {title}", "", *(f"- {fact}" for fact in facts), ""]
        lines += ["| " + " | ".join(cells) + " |" for cells in table]
        if not math.isnan(mean := self.speedup()):
            verdict = "reached" if mean >= MEMORY_SPEEDUP else "missed"
            lines += ["", f"Memory-bound rows, geometric mean of torch / ours: {mean:.2f} "
                      f"(target {MEMORY_SPEEDUP}: {verdict})"]  # fmt: skip
        failures = [f"- {r.group}: {r.name} ({r.size}): {r.error}" for r in self.results if r.error]
        return "\n".join([*lines, *(["", "Failures:", "", *failures] if failures else [])]) + "\n"

    def json(self) -> str:
        """Everything that was measured."""
        known = lambda x: None if math.isnan(x) else x
        results = [
            asdict(r) | {"share": known(r.share), "speedup": known(r.speedup), "verdict": r.verdict}
            for r in self.results
        ]
        whole = asdict(self) | {"results": results, "geometric_mean": known(self.speedup())}
        return json.dumps(whole, indent=1) + "\n"


def append(page: Path, text: str) -> None:
    """Append a run to a page, which is begun where it does not exist."""
    before = page.read_text() if page.exists() else HEADER
    page.write_text(before.replace(NO_RUN, "").rstrip("\n") + "\n\n" + text)
