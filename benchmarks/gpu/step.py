# One decoding step of a Llama over paged caches, in operators of ours and in eager PyTorch: what a graph
# replays with one call. One layer's weights serve all layers; no cache of a device holds that much.
"""The decoding step of the GPU benchmark."""

from __future__ import annotations

from typing import Any

import numpy as np
from measuring import Maker, Pair
from rows import Sizes, dense, page_table, turned

import infinicore as ic


class Step:
    """The tensors of a step, and the step itself in both libraries."""

    def __init__(self, s: Sizes, m: Maker) -> None:
        self.s, b, n, d = s, s.step_sequences, s.heads * s.head, s.head
        self.intermediate = 7 * n // 2
        qkv, pages = (s.heads + 2 * s.kv_heads) * d, b * -(-s.step_context // s.page)
        weight = lambda rows, columns: m.random(rows, columns, scale=columns**-0.5)
        table = page_table(m, s, b, s.step_context)
        last = s.step_context - 1  # where this step's token goes
        slots = table[:, last // s.page] * s.page + last % s.page
        self.tensors: dict[str, Pair] = {
            "hidden": m.random(b, n),
            "norm": m.random(n),
            "qkv": weight(qkv, n),
            "output": weight(n, n),
            "gate_up": weight(2 * self.intermediate, n),
            "down": weight(n, self.intermediate),
            "k_cache": m.random(pages, s.kv_heads, s.page, d),
            "v_cache": m.random(pages, s.kv_heads, s.page, d),
            "table": m.array(table),
            "slots": m.array(slots),
            "lengths": m.array(np.full(b, s.step_context, np.int64)),
            "positions": m.array(np.full(b, last)),
            "sine": m.random(s.step_context, d // 2, scale=0.5, dtype="float32"),
            "cosine": m.random(s.step_context, d // 2, scale=0.5, dtype="float32"),
            "result": m.empty(b, n),
        }
        self.names = list(self.tensors)
        weights = sum(self.tensors[name].ours.nbytes for name in ("qkv", "output", "gate_up", "down"))
        caches = 2 * b * s.step_context * s.kv_heads * d * self.tensors["k_cache"].ours.itemsize
        self.moved = float(s.layers * (weights + caches))

    @property
    def size(self) -> str:
        """Describe it."""
        s = self.s
        return f"{s.layers} layers, {s.step_sequences} sequences of {s.step_context}"

    def ours(self, *tensors: Any) -> Any:
        """Run our operators; temporaries come from the allocator, as in a model."""
        t, s = dict(zip(self.names, tensors, strict=True)), self.s
        b, heads, kv, d = s.step_sequences, s.heads, s.kv_heads, s.head
        hidden = t["hidden"]
        normed = ic.rms_norm(hidden, t["norm"])
        for layer in range(s.layers):
            by_head = ic.linear(normed, t["qkv"]).view((b, heads + 2 * kv, d))
            rotated = by_head.narrow(1, 0, heads + kv)
            ic.rope(rotated, t["positions"], t["sine"], t["cosine"], out=rotated)
            k, v = by_head.narrow(1, heads, kv), by_head.narrow(1, heads + kv, kv)
            ic.paged_caching(t["k_cache"], t["v_cache"], k, v, t["slots"])
            q = by_head.narrow(1, 0, heads)
            caches = t["k_cache"], t["v_cache"], t["table"], t["lengths"]
            context = ic.paged_attention(q, *caches, None, d**-0.5)
            branch = ic.linear(context.view((b, heads * d)), t["output"])
            normed, hidden = ic.add_rms_norm(branch, hidden, t["norm"])
            branch = ic.linear(ic.silu_and_mul(ic.linear(normed, t["gate_up"])), t["down"])
            out = (t["result"], ic.empty_like(hidden)) if layer + 1 == s.layers else None
            normed, hidden = ic.add_rms_norm(branch, hidden, t["norm"], out=out)
        return normed

    def theirs(self, torch: Any, *tensors: Any) -> Any:
        """Run the same in eager PyTorch, over caches that are dense: it has no paged ones."""
        t, s = dict(zip(self.names, tensors, strict=True)), self.s
        b, heads, kv, d = s.step_sequences, s.heads, s.kv_heads, s.head
        functional = torch.nn.functional
        norm = lambda x: functional.rms_norm(x, x.shape[-1:], t["norm"], 1e-5)
        hidden = t["hidden"]
        for _ in range(s.layers):
            by_head = functional.linear(norm(hidden), t["qkv"]).view(b, heads + 2 * kv, d)
            rotated = turned(torch, by_head[:, : heads + kv], t["positions"], t["sine"], t["cosine"])
            t["k_cache"][:, :, -1] = rotated[:, heads:]
            t["v_cache"][:, :, -1] = by_head[:, heads + kv :]
            context = functional.scaled_dot_product_attention(
                rotated[:, :heads, None], t["k_cache"], t["v_cache"], enable_gqa=True
            )
            hidden = functional.linear(context.reshape(b, heads * d), t["output"]) + hidden
            gate, up = functional.linear(norm(hidden), t["gate_up"]).chunk(2, -1)
            hidden = functional.linear(functional.silu(gate) * up, t["down"]) + hidden
        return norm(hidden)

    def prepare(self, torch: Any, *tensors: Any) -> list[Any]:
        """Give `theirs` dense caches of its own."""
        t = dict(zip(self.names, tensors, strict=True))
        for name in ("k_cache", "v_cache"):
            t[name] = dense(t[name], t["table"])[:, :, : self.s.step_context].contiguous()
        return [t[name] for name in self.names]
