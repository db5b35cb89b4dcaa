# Tokens per second of the demo model through infinicore and through transformers, taking turns in one run.
# The model is tiny: this measures what a step costs around its arithmetic. Both use as many threads.
"""Language model: infinicore against transformers."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

import infinicore as ic

EXAMPLES = Path(__file__).parents[1] / "examples"
FOLDER = EXAMPLES / "models" / "stdlib-llama"
ROUNDS, PREFILL, DECODE = 3, 512, 64

sys.path.insert(0, str(EXAMPLES))
from llama import Llama


def seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


class Ours:
    def __init__(self, dtype: str) -> None:
        self.model = Llama(FOLDER, "cpu", dtype=getattr(ic, dtype))

    def prefill(self, ids: list[int]) -> None:
        cache = self.model.cache(len(ids))
        self.model.forward(ic.from_list(ids, dtype=ic.int32, device="cpu"), 0, cache)
        ic.sync_device()

    def decode(self, first: int, count: int) -> None:
        cache, token = self.model.cache(count), ic.from_list([first], dtype=ic.int32, device="cpu")
        for position in range(count):
            logits = self.model.forward(token, position, cache)
            token = ic.random_sample(logits.view(-1), 0.5, 1.0, 1, 1.0).view((1,))
            token.item()


class Theirs:
    def __init__(self, dtype: str) -> None:
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            FOLDER, dtype=getattr(torch, dtype)
        ).eval()

    @torch.no_grad()
    def prefill(self, ids: list[int]) -> None:
        self.model(torch.tensor([ids]), logits_to_keep=1)

    @torch.no_grad()
    def decode(self, first: int, count: int) -> None:
        cache, token = transformers.DynamicCache(), torch.tensor([[first]])
        for _ in range(count):
            logits = self.model(token, past_key_values=cache, use_cache=True).logits
            token = logits[:, -1].argmax(-1, keepdim=True)
            token.item()


def main() -> None:
    threads = int(os.environ.get("INFINICORE_NUM_THREADS", 0)) or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    ids = [1 + 7 * i % 4000 for i in range(PREFILL)]
    print(f"tokens/s, {threads} threads, median of {ROUNDS} rounds")
    print(f"{'':22}{'infinicore':>12}{'transformers':>14}{'ours / theirs':>15}")
    for dtype in ("float32", "bfloat16"):
        ours, theirs = Ours(dtype), Theirs(dtype)
        for name, count, run in (
            (f"prefill {PREFILL}", PREFILL, lambda m: m.prefill(ids)),
            (f"decode {DECODE}", DECODE, lambda m: m.decode(5, DECODE)),
        ):
            run(ours), run(theirs)
            pairs = [(seconds(lambda: run(ours)), seconds(lambda: run(theirs))) for _ in range(ROUNDS)]
            a, b = (count / statistics.median(times) for times in zip(*pairs, strict=True))
            print(f"{dtype:>9} {name:<12}{a:12.0f}{b:14.0f}{a / b:15.2f}")


if __name__ == "__main__":
    main()
