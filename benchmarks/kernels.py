# Every operator that the CPU has a kernel for, against the NumPy body it is checked with and against PyTorch.
# The three alternate in one run; the table ends with what is slower than either, each measured four times.
"""Measure every native kernel: ``python benchmarks/kernels.py``.

A row is one call. ``numpy/ours`` and ``torch/ours`` are ratios of the least times; above 1 ours is faster.
All three allocate their results. The body's are rounded to the dtype of the output, as running the operator
without a kernel would do. ``--operators sum,exp`` measures those, ``--quick`` fewer dtypes and less long.
``--threads 1`` leaves at home our threads, PyTorch's and those of NumPy's matrix products (OpenBLAS), beside
which NumPy has none: the strictest comparison with it, and the steadiest on a machine that others use too.
``INFINICORE_CPU_ISA=x86_64_v3`` compares what a processor without AVX-512 would do only if the peers do
without it as well: ``ATEN_CPU_CAPABILITY=avx2`` and, for NumPy 2.4,
``NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR"``.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from _timing import Call, alternate

import infinicore as ic
from infinicore.ops.loss import Reduction
from infinicore.schema import DTYPES, OPERATORS, VARIABLES, Dim, Elements, Parameter, Schema, Spec, Values
from infinicore.testing.conformance import (
    WITNESSES,
    body_values,
    invoke,
    lacks,
    witness_arguments,
)
from infinicore.testing.strategies import NUMPY, DrawnCall, DrawnTensor, Layout, counted, spec

#: What a dtype variable stands for in turn; the first two are enough for a quick look.
CHOICES = {
    "F": ("f32", "bf16", "f16", "f64"),
    "N": ("f32", "bf16", "f16", "f64", "i32", "i64"),
    "R": ("f32", "bf16", "f16", "f64", "i64", "i32", "u8", "bool"),
    "T": ("f32", "bf16", "f64", "u8"),
    "S": ("f32",),
    "D": ("bf16",),
    "W": ("f32",),
    "I": ("i64",),
}
FASTER_THAN_OURS = 0.95  # a ratio from which on a difference is more than noise
AGAIN = 3  # times that a row which looks slower is measured anew; other work on the machine comes and goes

Case = dict[str, Any]  # symbols, scalars, dtype variables, and Elements or Values of tensors

_ELEMENTWISE: list[Case] = [{"*s": (1000, 1000)}, {"*s": (10000,)}]
_POSITIVE: list[Case] = [{**case, "input": Elements(0.125, 8.0)} for case in _ELEMENTWISE]
_ROWS: list[Case] = [
    {"*r": (512,), "n": 4096, "d": 4096, "k": 4096},
    {"*r": (1,), "n": 4096, "d": 4096, "k": 4096},
]
_SETS: list[Case] = [
    {"*s": (1000, 1000), "dim": None},
    {"*s": (1000, 1000), "dim": 0},
    {"*s": (1000, 1000), "dim": 1},
    {"*s": (100, 100, 100), "dim": (0, 2)},
    {"*s": (100000, 8), "dim": 1},
    {"*s": (100000, 3), "dim": 0},
]
_TRUTHS = [
    {**case, "input": Elements(value, value), "T": dtype}
    for dtype in ("bool", "f32")
    for value in (0, 1)
    for case in _SETS
]
_LINES: list[Case] = [
    {"*s": (1000, 1000), "dim": 0},
    {"*s": (1000, 1000), "dim": 1},
    {"*s": (1000000,), "dim": 0},
    {"*s": (1000000, 3), "dim": 0},
    {"*s": (100000, 8), "dim": 1},
]
_AXES: list[Case] = [
    {"*s": (1000, 1000), "axis": -1},
    {"*s": (1000, 1000), "axis": 0},
    {"*s": (10000, 10), "axis": -1},
]
_PAGED: Case = {
    "kv": 4,
    "h": 16,
    "d": 64,
    "nb": 64,
    "bs": 16,
    "b": 4,
    "mb": 16,
    "block_tables": Elements(0, 63),
}


def _picked(rows: int, width: int, count: int) -> Case:
    """Rows of a table chosen at random."""
    shape = (rows, width)
    return {"*s": shape, "n": count, "dim": 0, "index": Elements(0, rows - 1), "*r": (count, width)}


def _each(shape: tuple[int, ...], dim: int) -> Case:
    """Elements chosen along one dimension."""
    return {
        "*s": shape,
        "*o": shape,
        "*i": shape,
        "*r": shape,
        "dim": dim,
        "index": Elements(0, shape[dim] - 1),
    }


def _convolution(channels: int, size: int, filters: int, kernel: int, stride: int, groups: int = 1) -> Case:
    return {
        "n": 1,
        "ic": channels,
        "icg": channels // groups,
        "oc": filters,
        "*s": (size, size),
        "*k": (kernel, kernel),
        "pads": kernel // 2,
        "strides": stride,
        "dilations": 1,
    }


_PICKED = [_picked(10000, 256, 4000), _picked(100000, 3, 100000), _picked(100000, 1, 100000)]
_EACH = [_each((1000, 1000), 0), _each((1000, 1000), 1)]

# What symbols stand for, by operator; one that has only `*s`, and no bounds on its values, needs no entry.
CASES: dict[str, list[Case]] = {
    **dict.fromkeys(("log", "sqrt", "rsqrt", "reciprocal", "pow"), _POSITIVE),
    **dict.fromkeys(("sum", "mean", "prod", "var", "amax", "amin"), _SETS),
    **dict.fromkeys(("all", "any"), _TRUTHS),
    **dict.fromkeys(("argmax", "argmin", "max", "min", "cumsum", "sort"), _LINES),
    **dict.fromkeys(("softmax", "logsoftmax"), _AXES),
    **dict.fromkeys(
        ("rms_norm", "add_rms_norm", "layer_norm", "silu_and_mul", "per_channel_quant_int8"), _ROWS
    ),
    "lp_norm": [{**case, "p": p} for p in (1, 2, 3) for case in _AXES],
    "clip": [{**case, "min_val": Elements(-1, 0), "max_val": Elements(0, 1)} for case in _ELEMENTWISE],
    "clip_scalar": [{**case, "min_val": -1.0, "max_val": 1.0} for case in _ELEMENTWISE],
    "cast": [
        {**_ELEMENTWISE[0], "S": source, "D": target}
        for source, target in [
            ("f32", "bf16"),
            ("bf16", "f32"),
            ("f32", "f16"),
            ("f16", "f32"),
            ("f64", "f32"),
            ("f32", "f64"),
            ("f32", "i32"),
            ("i32", "f32"),
            ("i64", "i32"),
            ("i32", "i64"),
            ("f32", "bool"),
            ("u8", "f32"),
        ]
    ],
    **{
        name: [{**case, "T": dtype, "S": dtype} for dtype in ("bool", "f32") for case in _ELEMENTWISE]
        for name in ("logical_and", "logical_or", "logical_xor", "logical_not")
    },
    "topk": [
        {"*s": (1000, 1000), "dim": 1, "k": 10},
        {"*s": (1000, 1000), "dim": 0, "k": 10},
        {"*s": (20000, 16), "dim": 1, "k": 4},
        {"*s": (1, 151936), "dim": 1, "k": 50},
    ],
    "embedding": [{"*s": (512,), "v": 32000, "h": 2048, "input": Elements(0, 31999)}],
    "cat": [
        {"tensors": [(500, 1000), (500, 1000)], "dim": 0},
        {"tensors": [(1000, 500), (1000, 500)], "dim": 1},
        {"tensors": [(100000, 1), (100000, 2)], "dim": 1},
    ],
    **dict.fromkeys(("index_select", "index_add"), _PICKED),
    **dict.fromkeys(("gather", "scatter"), _EACH),
    "gemm": [
        {"*b": (), "m": m, "n": n, "k": k} for m, n, k in ((256, 256, 256), (1, 2048, 2048), (1000, 64, 30))
    ],
    "linear": [{"*r": (rows,), "n": 1024, "k": 1024, "bias": Elements(-1, 1)} for rows in (1, 64)],
    "int8_gemm": [
        {
            "m": m,
            "n": 1024,
            "k": 1024,
            "*u": (1,),
            "*v": (1,),
            "x": Elements(-128, 127),
            "weights": Elements(-128, 127),
            "F": dtype,
            "bias": Elements(-1, 1),
        }
        for m in (1, 64)
        for dtype in ("f32", "bf16")
    ],
    "conv": [
        _convolution(3, 112, 32, 7, 2),
        _convolution(32, 56, 32, 3, 1),
        _convolution(96, 56, 96, 3, 1, groups=96),
        _convolution(64, 28, 128, 1, 1),
    ],
    "cross_entropy": [
        {
            "*s": (512, 32000),
            "*p": (512,),
            "n": 32000,
            "target": Elements(0, 31999),
            "reduction": Reduction.NONE,
        },
        {"*s": (10000, 10), "*p": (10000,), "n": 10, "target": Elements(0, 9), "reduction": Reduction.MEAN},
    ],
    "causal_softmax": [{"*r": (8,), "n": 256, "m": 256}],
    "topksoftmax": [{"n": 1000, "e": 64, "topk": 8}],
    "topkrouter": [{"n": 1000, "e": 256, "topk": 8}],
    "attention": [
        {"kv": 4, "h": 16, "d": 64, "s": 1, "l": 1024, "pos": 1023},
        {"kv": 4, "h": 16, "d": 64, "s": 128, "l": 256, "pos": 128},
    ],
    "paged_attention": [{**_PAGED, "cache_lens": Elements(128, 256), "scale": 0.125}],
    "paged_attention_prefill": [
        {
            **_PAGED,
            "t": 256,
            "c": 5,
            "history_lens": Values([64] * 4),
            "scale": 0.125,
            "cu_seqlens_q": Values([0, 64, 128, 192, 256]),
        }
    ],
    "mha_kvcache": [
        {
            **_PAGED,
            "block_table": _PAGED["block_tables"],
            "seqlens_k": Elements(128, 256),
            "s": 1,
            "scale": 0.125,
        }
    ],
    "mha_varlen": [
        {
            "h": 16,
            "kv": 4,
            "d": 64,
            "t": 256,
            "*n": (256,),
            "c": 3,
            "cum_seqlens_q": Values([0, 128, 256]),
            "cum_seqlens_k": Values([0, 128, 256]),
            "max_seqlen_q": 128,
            "max_seqlen_k": 128,
            "scale": 0.125,
        }
    ],
    "mha": [{"b": 2, "s": 128, "l": 128, "h": 8, "kv": 4, "d": 64, "scale": 0.125, "is_causal": True}],
    "scaled_dot_product_attention": [
        {"*n": (8,), "*g": (8,), "l": length, "s": 256, "d": 64, "dv": 64, "scale": None}
        for length in (1, 256)
    ],
    "rope": [{"*s": (512,), "h": 16, "d": 64, "maxpos": 1024, "pos_ids": Elements(0, 1023)}],
    "paged_caching": [
        {"nb": 64, "bs": 16, "n": 256, "kv": 4, "d": 64, "slot_mapping": Values(range(256))},
    ],
    "kv_caching": [{"b": 4, "kv": 4, "l": 256, "d": 64, "s": 1, "past_kv_lengths": Elements(0, 255)}],
    "dequantize_awq": [{"g": 8, "k": 1024, "n": 1024, "qweight": Elements(-(2**31), 2**31 - 1)}],
    "dequantize_gptq": [
        {"g": 8, "k": 1024, "n": 1024, "qweight": Elements(-(2**31), 2**31 - 1), "g_idx": Elements(0, 7)}
    ],
    "per_tensor_quant_int8": [
        {**case, "x_scale": Elements(0.1, 0.1), "is_static": static}
        for static in (True, False)
        for case in _ELEMENTWISE
    ],
    "per_tensor_dequant_int8": [
        {**case, "x_scale": Elements(0.1, 0.1), "x_zero": Elements(0, 0), "F": "f32"} for case in _ELEMENTWISE
    ],
    "random_sample": [
        {"n": 32000, "random_val": 0.4, "topp": topp, "topk": topk, "temperature": 0.8}
        for topp, topk in ((0.9, 50), (0.9, 0), (1.0, 0))
    ],
    "random_sample_batch": [
        {
            "b": 4,
            "n": 32000,
            "random_val": Elements(0.4, 0.4),
            "topp": Elements(0.9, 0.9),
            "topk": Elements(50, 50),
            "temperature": Elements(0.8, 0.8),
        }
    ],
}

# PyTorch's own function, where the witness takes a longer way for the sake of ties or crossed bounds.
DIRECT: dict[str, Any] = {
    "topk": lambda torch, a: torch.topk(a["input"], a["k"], a["dim"], a["largest"], a["sorted"]),
    "clip_scalar": lambda torch, a: torch.clamp(a["input"], a["min_val"], a["max_val"]),
    "floor": lambda torch, a: torch.floor(a["input"]),
    "ceil": lambda torch, a: torch.ceil(a["input"]),
    "round": lambda torch, a: torch.round(a["input"]),
}


# ---- calls -----------------------------------------------------------------------------------------


def contiguous(shape: tuple[int, ...]) -> Layout:
    """Lay out a tensor in C order."""
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return Layout(shape, strides, 0, math.prod(shape))


def filled(case: Case, p: Parameter, shape: tuple[int, ...], dtype: str) -> DrawnTensor:
    """Make a contiguous tensor whose values are what the case says, or drawn between -3 and 3."""
    random = np.random.default_rng(p.index)
    said = case.get(p.name, Elements(0 if dtype[0] == "u" else -3, 3))
    if isinstance(said, Values):
        values = np.array([*said.items]).reshape(shape)
    elif dtype == "bool":
        low, high = (said.low, said.high) if p.name in case else (0, 1)
        values = random.integers(low, high, shape, endpoint=True)
    elif NUMPY[dtype].kind in "iu":
        values = random.integers(said.low, said.high, shape, endpoint=True)
    else:
        values = random.uniform(said.low, said.high, shape)
    return DrawnTensor(dtype, contiguous(shape), np.ascontiguousarray(values, NUMPY[dtype]).reshape(shape))


def prepared(schema: Schema, case: Case, dtypes: dict[str, str]) -> DrawnCall:
    """Make the call of a case."""

    def dtype_of(p: Parameter) -> str:
        return dtypes[p.dtype] if p.dtype in dtypes else p.dtypes()[0]

    def size(dim: Dim) -> tuple[int, ...]:
        if dim.number is not None:
            return (dim.number,)
        key = f"*{dim.name.lstrip('*')}" if dim.star else dim.name
        if key not in case:
            raise SystemExit(f"benchmarks/kernels.py: CASES says no {key} for operator {schema.name}")
        return tuple(case[key]) if dim.star else (case[key] // dim.divisor,)

    slots: list[Any] = [None] * len(schema.parameters)
    for p in schema.parameters:
        if p.role == "scalar":
            slots[p.index] = case.get(p.name, p.default)
        elif p.kind == "tensors":
            slots[p.index] = tuple(filled({}, p, tuple(shape), dtype_of(p)) for shape in case[p.name])
        elif p.role != "out" and not (p.optional and p.name not in case):
            slots[p.index] = filled(case, p, sum(map(size, p.dims), ()), dtype_of(p))
    specs = [spec(value) for value in slots]
    outs = [p for p in schema.parameters if p.role == "out"]
    if schema.count is not None:
        specs = counted(schema, slots, specs)
    elif out_required(schema):
        for p in outs:
            specs[p.index] = Spec(sum(map(size, p.dims), ()), dtype_of(p))
    specs = schema.resolve(specs).specs
    for p in outs:
        own = specs[p.index]
        slots[p.index] = DrawnTensor(own.dtype, contiguous(own.shape), None)
    return DrawnCall(schema, slots, False, {})


def out_required(schema: Schema) -> bool:
    """Tell whether a call must say where its result goes."""
    return any(parameter.slot == parameter.OUT and parameter.required for parameter in schema.call.parameters)


def native(call: DrawnCall) -> Call:
    """Our call, its arguments at hand; it allocates its results unless the operator says otherwise."""

    def tensor(value: Any) -> Any:
        if isinstance(value, tuple) and value and isinstance(value[0], DrawnTensor):
            return [tensor(item) for item in value]
        if not isinstance(value, DrawnTensor):
            return value
        if value.values is not None:
            return ic.from_numpy(value.values)
        return ic.empty(value.layout.shape, dtype=getattr(ic, DTYPES[value.dtype][1]), device="cpu")

    schema, recorded = call.schema, {}

    def record(*positional: Any, **keywords: Any) -> None:
        recorded.update(positional=positional, keywords=keywords)

    invoke(schema, record, [tensor(value) for value in call.slots], give_out=out_required(schema))
    function, positional, keywords = getattr(ic.ops, schema.call.name), *recorded.values()
    return lambda: function(*positional, **keywords)


def body(call: DrawnCall) -> Call:
    """The NumPy body, its results in the dtype of the outputs."""
    values = body_values(call, lambda drawn: drawn.values)
    targets = [NUMPY[call.slots[p.index].dtype] for p in call.schema.outputs]

    def run() -> list[np.ndarray]:
        results = map(np.asarray, call.schema.run_reference(values))
        # A result that is an input still, since nothing had to be done, is a copy in the end.
        return [
            r.astype(t, copy=any(r is value for value in values))
            for r, t in zip(results, targets, strict=True)
        ]

    return run


def pytorch(call: DrawnCall) -> Call | None:
    """PyTorch's way, where it has one for this dtype."""
    function = DIRECT.get(call.schema.name) or WITNESSES.get(call.schema.name)
    if function is None:
        return None

    def tensor(drawn: DrawnTensor) -> torch.Tensor:
        array = drawn.values.copy()  # ours is one, too: nobody finds in a cache what a peer has just read
        if drawn.dtype == "bf16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    try:
        arguments = witness_arguments(call, tensor)
        function(torch, arguments)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        if lacks(error) or isinstance(error, TypeError) or "expected" in str(error):
            return None
        raise
    return lambda: function(torch, arguments)


# ---- rows ------------------------------------------------------------------------------------------


def calls_of(schema: Schema, quick: bool) -> Iterator[tuple[str, DrawnCall]]:
    """Yield every call that is measured, with its name."""
    for case in CASES.get(schema.name, _ELEMENTWISE):
        said = {name: case[name] for name in VARIABLES if name in case}
        used = [p.dtype for p in schema.tensors if p.dtype in VARIABLES]
        main = next((v for v in used if v not in ("I", "W", *said)), None)
        choices = CHOICES[main] if main and not said else (None,)
        for choice in choices[: 2 if quick else None]:
            dtypes = {name: values[0] for name, values in CHOICES.items()} | said
            if choice:
                dtypes[main or ""] = choice
            if dtypes["F"] != "f32":
                dtypes["W"] = dtypes["F"]
            call = prepared(schema, case, dtypes)
            # What a case says of shapes and scalars; the inputs' own shapes where it says nothing.
            shown = [p for p in schema.tensors if p.role != "out" and call.slots[p.index] is not None][:2]
            words = []
            for p in shown:
                value = call.slots[p.index]
                first = value[0] if isinstance(value, tuple) else value
                words.append(f"{first.dtype}[{','.join(map(str, first.layout.shape))}]")
            if schema.name == "cast":
                words.append(f"to {case['D']}")
            scalars = [
                f"{k}={v}"
                for k, v in case.items()
                if k in schema.by_name and isinstance(v, (int, float, tuple, type(None)))
            ]
            extra = [f"{k}={v.low}" for k, v in case.items() if isinstance(v, Elements) and v.low == v.high]
            yield f"{schema.name} {' '.join([*words, *scalars, *extra])}", call


def least(call: DrawnCall, seconds: float) -> list[float]:
    """Return the least time of ours, of the body and, where it has the operator, of PyTorch."""
    theirs = pytorch(call)
    timed = [native(call), body(call), *([theirs] if theirs else [])]
    return [min(samples) for samples in alternate(timed, seconds)]


def slower(best: list[float]) -> list[int]:
    """List the places of the peers that took less time than ours, which is the first."""
    return [index for index, time in enumerate(best) if time / best[0] < FASTER_THAN_OURS]


def row(title: str, best: list[float]) -> str:
    """Write a row of the table."""
    columns = "".join(f"{time / best[0]:12.2f}" for time in best[1:])
    return f"{title:64}{1e6 * best[0]:10.1f}{columns}"


def main() -> None:
    """Print the table, then what is slower."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two dtypes and a third of the time")
    parser.add_argument("--operators", default="", help="only these, separated by commas")
    parser.add_argument("--threads", type=int, help="threads of ours, of PyTorch's and of OpenBLAS")
    options = parser.parse_args()
    if options.threads:
        threads = dict.fromkeys(("INFINICORE_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(options.threads))
        if not threads.items() <= os.environ.items():  # OpenBLAS reads its own when NumPy is imported
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **threads})
        torch.set_num_threads(options.threads)
    seconds = 0.1 if options.quick else 0.3
    natives = ic.backends["cpu"].operators["native"]
    wanted = [*filter(None, options.operators.split(","))] or natives
    if unknown := sorted(set(wanted) - set(natives)):
        raise SystemExit(f"--operators names {', '.join(unknown)}, of which the cpu backend has no kernel")
    doubtful: dict[str, tuple[DrawnCall, list[float]]] = {}
    print(f"{'':64}{'ours us':>10}{'numpy/ours':>12}{'torch/ours':>12}")
    for name in wanted:
        for title, call in calls_of(OPERATORS[name], options.quick):
            best = least(call, seconds)
            print(row(title, best), flush=True)
            if slower(best):
                doubtful[title] = call, best
    for _ in range(AGAIN):
        for call, best in doubtful.values():
            best[:] = map(min, best, least(call, seconds))
        doubtful = {title: entry for title, entry in doubtful.items() if slower(entry[1])}
    for index, peer in enumerate(("their NumPy body", "PyTorch"), start=1):
        rows = [row(title, best) for title, (_, best) in doubtful.items() if index in slower(best)]
        print(f"\nnative kernels slower than {peer}: {len(rows) or 'none'}", *rows, sep="\n")


if __name__ == "__main__":
    main()
