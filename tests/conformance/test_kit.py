# The kit tested: what it says of a check that dies, hangs, fails or is listed as failing, and of options
# that make no sense. What it finds in a plug-in, tests/plugins/test_conformance.py says.
"""Tests of the conformance kit."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import infinicore as ic
from infinicore.testing import __main__ as command
from infinicore.testing import known_failures, report
from infinicore.testing.page import html_page
from infinicore.testing.runner import run_isolated
from infinicore.testing.suite import Check, Options, Outcome, Skip, Target, even, run
from infinicore.testing.tolerance import Tolerance, distance

NOTHING = Options("cpu", operators=(), tests=("stress",), iterations=1)
DEATHS = """
import os, time
from infinicore.testing.suite import check

@check("stress", "death")
def dies(target):
    print("last words", flush=True)
    os.abort()

@check("stress", "death")
def hangs(target):
    time.sleep(100)

@check("stress", "death")
def lives(target):
    pass
"""


def test_what_dies_or_hangs_is_one_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(DEATHS)
    monkeypatch.syspath_prepend(tmp_path)
    outcomes = {o.id: o for o in run_isolated(NOTHING, known_failures.KnownFailures(), timeout=12)}
    assert {name: o.state for name, o in outcomes.items() if name.startswith("death")} == {
        "death.dies": "failed",
        "death.hangs": "failed",
        "death.lives": "passed",
    }
    assert "the process died of SIGABRT" in outcomes["death.dies"].message
    assert "last words" in outcomes["death.dies"].message
    assert outcomes["death.hangs"].message.startswith("nothing came of it in 12 s")
    assert outcomes["stress.long_queue"].state == "passed"  # what comes behind goes on


def test_outcomes(cpu: ic.device) -> None:
    def wrong(target: Target) -> None:
        raise AssertionError("wrong by one")

    def breaks(target: Target) -> None:
        raise ic.BackendError("the device is gone")

    def nothing(target: Target) -> None:
        raise Skip("nothing to check")

    target = Target(NOTHING)
    first = run(target, Check("a.wrong", "basic", wrong))
    assert (first.state, first.message) == ("failed", "wrong by one") and first.is_finding
    second = run(target, Check("a.breaks", "basic", breaks))
    assert second.state == "failed" and second.message.startswith(
        "BackendError: the device is gone (in breaks"
    )
    third = run(target, Check("a.nothing", "basic", nothing))
    assert (third.state, third.message) == ("skipped", "nothing to check") and not third.is_finding


def test_known_failures(tmp_path: Path) -> None:
    file = tmp_path / known_failures.FILE
    file.write_text(
        """
        [[failure]]
        test = "operators.add.*"
        reason = "no carry"
        issue = "https://example.com/1"
        [[tolerance]]
        operator = "gemm"
        dtype = "float16"
        ulps = 3
        reason = "narrow sums"
        """
    )
    known = known_failures.load(file)
    listed = known.apply(Outcome("operators.add.f32", "basic", "failed", message="wrong"))
    assert (listed.state, listed.message) == ("known", "no carry (https://example.com/1)\nwrong")
    fixed = known.apply(Outcome("operators.add.f16", "basic", "passed"))
    assert fixed.state == "unexpected" and fixed.is_finding and "no carry" in fixed.message
    assert known.apply(Outcome("operators.sub.f32", "basic", "failed")).state == "failed"
    assert known.tolerance("gemm", "float16").ulps == 3 and known.tolerance("gemm", "float16").rtol == 0
    assert known.tolerance("gemm", "float32").ulps == 2
    assert known.unmatched(["operators.sub.f32"]) == ["operators.add.*"]
    everything = report.make(Options("cpu"), [], known)
    assert everything["findings"] == ["operators.add.*"]  # names no check


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[failure]]\ntest = "a"', "failure 1 has no reason"),
        ('[[failure]]\ntest = "a"\nreason = "b"\nwhy = "c"', "failure 1 has an unknown why"),
        ("[[flaky]]\ntest = 1", "not flaky"),
        ("[failure", "known_failures.toml: "),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / known_failures.FILE
    file.write_text(text)
    with pytest.raises(ic.InvalidArgument, match=re.escape(message)):
        known_failures.load(file)


def test_tiers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INFINICORE_TEST_TIER", raising=False)
    assert [report.tier_of(name) for name in ("cpu", "sim", "cuda")] == [
        "hardware",
        "simulated",
        "not stated",
    ]
    monkeypatch.setenv("INFINICORE_TEST_TIER", "double")
    assert report.tier_of("cuda") == "double" and report.tier_of("cuda", "hardware") == "hardware"
    with pytest.raises(ic.InvalidArgument, match="silicon"):
        report.tier_of("cuda", "silicon")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--cpu", "--list", "--test", "leak", "--operators", "add"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "leaks.add  (leak)"
    assert command.main(["--backend", "cpu", "--operators", "nonsense"]) == 2
    assert "no operator nonsense" in capsys.readouterr().err
    arguments = ["--backend", "cpu", "--test", "stress", "--iterations", "1", "--in-process", "--json", "-"]
    assert command.main(arguments) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["counts"] == {"passed": 3} and "tier: hardware" in printed.err
    for wrong in (["--test", "stress"], ["--cpu", "--threads", "0"], ["--cpu", "--test", "speed"]):
        with pytest.raises(SystemExit) as caught:
            command.main(wrong)
        assert caught.value.code == 2


def test_without_hypothesis_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    for name in [n for n in sys.modules if n.partition(".")[0] == "hypothesis"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("strategies", "tolerance", "conformance"):
        monkeypatch.delitem(sys.modules, f"infinicore.testing.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    arguments = ["--backend", "cpu", "--test", "basic", "--operators", "add", "--in-process"]
    assert command.main(arguments) == 2
    assert "pip install hypothesis" in capsys.readouterr().out


def test_distance() -> None:
    exact = Tolerance(ulps=1.0)
    got = np.array([1.0, 2.0 + 2**-21, np.inf], np.float32)
    assert distance(got, np.array([1.0, 2.0, 3.0]), exact, "f32") == 2.0
    assert distance(np.array([3]), np.array([4]), exact, "i32") == 0.0
    assert distance(np.array([1 + 2j], np.complex64), np.array([1 + (2 + 2**-22) * 1j]), exact, "f32") == 1.0
    sums = np.array([2.0**-10, 1.0, 1.0, 1.0]), np.array([2.0**-10 + 2**-23, 1.0, 1.0, 1.0])
    assert distance(sums[0].astype(np.float32), sums[1], exact, "f32") == 2.0**10
    assert distance(sums[0].astype(np.float32), sums[1], Tolerance(atol=1e-6), "f32") == 2.0


def test_the_page_says_what_the_report_says() -> None:
    outcomes = [
        Outcome("operators.add.f32", "basic", "failed", message="got <1>"),
        Outcome("operators.sub.f32", "basic", "passed", facts={"state": "native", "calls": 1, "ulps": 0.25}),
        Outcome("special.neg", "basic", "known", message="the chip has no NaN (#7)\nwrong"),
        Outcome("runtime.events", "basic", "skipped", message="no events"),
    ]
    text = html_page(report.make(Options("cpu"), outcomes, known_failures.KnownFailures(), tier="double"))
    for said in ("1 finding in 3 checks", "got &lt;1&gt;", "the chip has no NaN (#7)", "no silicon took part",
                 "no events", "worst error 0.25 ulp", ">0.25<"):  # fmt: skip
        assert said in text

    class Balance(HTMLParser):
        open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag != "meta":
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(text)
    assert parser.open == []


def test_a_sample_shows_whose_elements_were_taken(cpu: ic.device) -> None:
    """Threads that share a descriptor are told apart by their inputs, whatever is drawn."""
    for seed in range(6):
        target = Target(Options("cpu", operators=("mul",), iterations=2, seed=seed))
        assert even(target.sample("mul")) == 0
