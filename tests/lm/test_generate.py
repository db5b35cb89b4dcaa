# The demo as its reader runs it: a script in a process of its own, which streams text and ends with a
# summary. It must need neither NumPy nor PyTorch, and say what is wrong in one line.
"""examples/generate.py."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
sys.path.insert(0, {examples!r})
import generate
status = generate.main(sys.argv[1:])
heavy = sorted({{"numpy", "torch", "ml_dtypes", "transformers"}} & set(sys.modules))
assert not heavy, heavy
sys.exit(status)
"""


def run(examples: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(examples=str(examples))
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)


def test_writes_python_and_says_how_fast(examples: Path) -> None:
    done = run(examples, "--max-tokens", "40", "--prompt", "def read(self")
    assert done.returncode == 0, done.stderr
    assert "def read(self" in done.stdout
    summary = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"\[\d+ tokens, \d+ tokens/s, first token after [\d.]+ ms; backend cpu\]", summary)


def test_seed_decides(examples: Path) -> None:
    def written(seed: str) -> str:
        done = run(examples, "--max-tokens", "30", "--seed", seed)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("]\n", 1)[1].rsplit("\n[", 1)[0]

    first = written("3")
    assert first == written("3")
    assert first != written("4")


def test_zero_temperature_is_greedy(examples: Path, prompts: list[dict], folder: Path) -> None:
    import tokenizers

    done = run(examples, "--max-tokens", "12", "--temperature", "0", "--prompt", prompts[2]["prompt"])
    assert done.returncode == 0, done.stderr
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    # bfloat16 may leave float32's path later on; the first tokens of this prompt are far ahead of the rest.
    assert prompts[2]["prompt"] + tokenizer.decode(prompts[2]["greedy_float32"][:6]) in done.stdout


def test_errors_are_one_line(examples: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").unlink()
    cases = {
        ("--device", "abacus"): "abacus",
        ("--model", "/nowhere"): "/nowhere/config.json: No such file",
        ("--model", str(tmp_path / "model")): "tokenizer.json",
        ("--max-tokens", "0"): "--max-tokens 0",
        ("--prompt", "x " * 3000): "1024 positions",
    }
    for arguments, message in cases.items():
        done = run(examples, *arguments)
        assert done.returncode == 1, done.stdout
        assert done.stderr.startswith("generate.py: ") and message in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1
