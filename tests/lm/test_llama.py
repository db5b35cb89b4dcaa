# A trained Llama through infinicore: the same logits and the same tokens as transformers computes.
# reference.json holds transformers' results, so that most of this needs neither it nor PyTorch.
"""The example model against transformers."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import infinicore as ic

PROMPTS = range(3)


def token_tensor(ids: list[int], device: ic.device) -> ic.Tensor:
    return ic.from_list(ids, dtype=ic.int32, device=device)


def logits_of(
    model: Any, ids: list[int], cache: Any, position: int = 0, *, every: bool = False
) -> np.ndarray:
    tokens = token_tensor(ids, model.device)
    return model.forward(tokens, position, cache, every=every).to(ic.float64).to("cpu").numpy()


def greedy(model: Any, ids: list[int], count: int) -> list[int]:
    """Continue token by token, each the likeliest: the prompt at once, then one at a time."""
    cache, written, position = model.cache(len(ids) + count), [], 0
    while len(written) < count:
        logits = logits_of(model, ids, cache, position)
        position += len(ids)
        ids = [int(logits[0].argmax())]
        written += ids
    return written


@pytest.fixture(scope="module")
def float32(llama: ModuleType, folder: Path) -> Any:
    return llama.Llama(folder, "cpu", dtype=ic.float32)


@pytest.mark.parametrize("number", PROMPTS)
def test_largest_logits(number: int, float32: Any, prompts: list[dict[str, Any]]) -> None:
    ids, want = prompts[number]["input_ids"], prompts[number]["last_logits_top8"]
    logits = logits_of(float32, ids, float32.cache(len(ids)))[0]
    assert [int(token) for token in want] == list(np.argsort(-logits)[:8])
    np.testing.assert_allclose(logits[[int(token) for token in want]], list(want.values()), rtol=1e-4)
    assert math.isclose(np.linalg.norm(logits), prompts[number]["last_logits_l2"], rel_tol=1e-4)


@pytest.mark.parametrize("number", PROMPTS)
def test_greedy_tokens(number: int, float32: Any, prompts: list[dict[str, Any]]) -> None:
    want = prompts[number]["greedy_float32"]
    assert greedy(float32, prompts[number]["input_ids"], len(want)) == want


def test_simulated_device(
    llama: ModuleType, folder: Path, sim: ic.device, prompts: list[dict[str, Any]]
) -> None:
    model = llama.Llama(folder, sim, dtype=ic.float32)
    assert greedy(model, prompts[0]["input_ids"], 6) == prompts[0]["greedy_float32"][:6]


def test_tokens_one_at_a_time_or_all_at_once(float32: Any, prompts: list[dict[str, Any]]) -> None:
    ids = prompts[2]["input_ids"] + prompts[2]["greedy_float32"]
    at_once = logits_of(float32, ids, float32.cache(len(ids)), every=True)
    cache = float32.cache(len(ids))
    chunks = [(0, 1), (1, 2), (2, 9), (9, 10), (10, len(ids))]
    pieces = [logits_of(float32, ids[first:last], cache, first, every=True) for first, last in chunks]
    np.testing.assert_allclose(np.concatenate(pieces), at_once, rtol=1e-4, atol=1e-4)


def test_keys_of_older_configurations(llama: ModuleType, folder: Path, tmp_path: Path, float32: Any) -> None:
    """transformers 4 wrote rope_theta and torch_dtype."""
    shutil.copy(folder / "model.safetensors", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    older = llama.Llama(tmp_path)
    assert older.config == float32.config
    assert older.dtype is ic.bfloat16


def test_more_tokens_than_the_cache_holds(float32: Any) -> None:
    cache = float32.cache(4)
    with pytest.raises(ic.Error, match=r"3 tokens at position 2 do not fit a cache of 4"):
        float32.forward(token_tensor([1, 2, 3], float32.device), 2, cache)
    with pytest.raises(ic.Error, match=r"length is 1025, .* up to 1024"):
        float32.cache(1025)


def test_token_outside_the_vocabulary(float32: Any) -> None:
    with pytest.raises(IndexError, match=r"embedding: .*4096.*4096") as caught:
        logits_of(float32, [1, 4096], float32.cache(2))
    assert isinstance(caught.value, ic.Error)


# ---- against transformers itself -----------------------------------------------------------------


def theirs(folder: Path, torch: ModuleType, dtype: str) -> Any:
    import transformers

    torch.set_num_threads(1)  # the model is tiny: threads that wait for each other cost more than they give
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    return model.eval()


@pytest.mark.torch
@pytest.mark.parametrize("number", PROMPTS)
def test_logits_equal_transformers(
    number: int, float32: Any, folder: Path, prompts: list[dict[str, Any]], torch: ModuleType
) -> None:
    ids = prompts[number]["input_ids"] + prompts[number]["greedy_float32"]
    with torch.no_grad():
        want = theirs(folder, torch, "float32")(torch.tensor([ids])).logits[0].double().numpy()
    got = logits_of(float32, ids, float32.cache(len(ids)), every=True)
    # Relative to the logits of the same position: those near zero are differences of larger ones.
    error = np.abs(got - want).max(axis=1) / np.abs(want).max(axis=1)
    assert error.max() <= 1e-4


@pytest.mark.torch
def test_bfloat16_teacher_forced(llama: ModuleType, folder: Path, prompts: Any, torch: ModuleType) -> None:
    """Over 200 tokens our likeliest token is theirs, or their two likeliest lie within 2 ulp."""
    model = theirs(folder, torch, "bfloat16")
    torch.manual_seed(0)
    start = torch.tensor([prompts[2]["input_ids"]])
    with torch.no_grad():
        ids = model.generate(start, do_sample=True, top_p=0.9, min_new_tokens=200, max_new_tokens=200)
        want = model(ids).logits[0].double().numpy()
    ids = ids[0].tolist()
    ours = llama.Llama(folder)
    assert ours.dtype is ic.bfloat16
    cache = ours.cache(len(ids))
    at_once = logits_of(ours, ids, ours.cache(len(ids)), every=True)
    one_by_one = np.concatenate([logits_of(ours, [token], cache, place) for place, token in enumerate(ids)])
    for got in (at_once, one_by_one):
        for place in range(len(start[0]) - 1, len(ids)):
            second, first = np.sort(want[place])[-2:]
            ulp = 2.0 ** (math.floor(math.log2(abs(first))) - 7)
            assert got[place].argmax() == want[place].argmax() or first - second <= 2 * ulp, (
                f"position {place}: we say {got[place].argmax()}, they say {want[place].argmax()}, "
                f"their top two differ by {(first - second) / ulp:.1f} ulp"
            )
