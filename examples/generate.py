# Let a Llama checkpoint write text, token by token: python examples/generate.py --prompt "def parse("
# The model that comes along was trained on Python's standard library, so what it writes looks like Python.
"""Stream text from a language model through infinicore."""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

import infinicore as ic
from llama import CheckpointError, Llama

MODEL = Path(__file__).parent / "models" / "stdlib-llama"
PROMPT = "def read(self"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODEL, help="folder of a Llama checkpoint")
    parser.add_argument("--prompt", default=PROMPT, help="text to continue")
    parser.add_argument("--max-tokens", type=int, default=160, help="stop after this many tokens")
    parser.add_argument(
        "--temperature", type=float, default=0.7, help="0 takes the likeliest token every time"
    )
    parser.add_argument(
        "--top-p", type=float, default=0.9, help="sample from the likeliest tokens of this weight"
    )
    parser.add_argument("--top-k", type=int, default=0, help="sample from this many tokens, 0: from all")
    parser.add_argument("--seed", type=int, default=20, help="the same seed writes the same text")
    parser.add_argument("--device", default="cpu", help='for example "cpu", "cuda", "ascend:1"')
    return parser.parse_args(arguments)


def read_tokenizer(folder: Path, vocab_size: int) -> Tokenizer:
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more precise
        raise CheckpointError(f"{path}: {error}") from None
    if tokenizer.get_vocab_size() > vocab_size:
        raise CheckpointError(
            f"{path}: {tokenizer.get_vocab_size()} tokens, config.json says vocab_size {vocab_size}"
        )
    return tokenizer


def generate(options: argparse.Namespace) -> None:
    began = time.perf_counter()
    model = Llama(options.model, options.device)
    tokenizer = read_tokenizer(options.model, model.config.vocab_size)
    prompt = tokenizer.encode(options.prompt).ids
    if not prompt:
        raise ic.InvalidArgument(f"generate: the prompt {options.prompt!r} has no tokens")
    room = model.config.max_position_embeddings - len(prompt)
    count = min(options.max_tokens, room)
    if count <= 0:
        raise ic.InvalidArgument(
            f"generate: a prompt of {len(prompt)} tokens and --max-tokens {options.max_tokens} leave "
            f"nothing to generate; the model knows {model.config.max_position_embeddings} positions"
        )
    cache = model.cache(len(prompt) + count)
    chance, text = random.Random(options.seed), DecodeStream(skip_special_tokens=True)
    loaded = time.perf_counter()
    print(f"[{options.model.name} on {model.device}, loaded in {loaded - began:.2f} s]\n")
    print(options.prompt, end="", flush=True)

    tokens, position, written = ic.from_list(prompt, dtype=ic.int32, device=model.device), 0, 0
    prefilled = loaded
    while written < count:
        logits = model.forward(tokens, position, cache)
        position += tokens.shape[0]
        choice = ic.random_sample(
            logits.view(-1), chance.random(), options.top_p, options.top_k, options.temperature
        )
        token, tokens = int(choice.item()), choice.view((1,))
        if written == 0:
            prefilled = time.perf_counter()
        written += 1
        if token in model.config.end_tokens:
            break
        piece = text.step(tokenizer, token)
        if piece:
            print(piece, end="", flush=True)
    seconds = time.perf_counter() - prefilled

    print(f"\n\n[{written} tokens", end="")
    if written > 1:
        print(f", {(written - 1) / seconds:.0f} tokens/s", end="")
    print(f", first token after {(prefilled - loaded) * 1e3:.1f} ms; backend {model.device.type}]")


def main(arguments: list[str] | None = None) -> int:
    try:
        generate(parse(arguments))
    except ic.Error as error:
        print(f"generate.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
