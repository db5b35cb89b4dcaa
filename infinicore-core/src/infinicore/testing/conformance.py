# Run a drawn call on a device and compare it with the operator's own reference in float64, and that with
# PyTorch. Shipped, so that a plug-in is certified with the very checks that core uses on itself.
"""Conformance of a device's operators."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import infinicore as ic
from infinicore._dispatch import Operator
from infinicore.schema import DTYPES, CallParameter, Parameter, Schema
from infinicore.testing.elements import NUMPY, PARTS, decode, encode, itemsize
from infinicore.testing.strategies import DrawnCall, DrawnTensor
from infinicore.testing.tolerance import Tolerance, distance, mismatches, tolerance

__all__ = [
    "REFUSALS",
    "WITNESSES",
    "Image",
    "Launch",
    "agree",
    "body_values",
    "check",
    "in_torch",
    "invoke",
    "judge",
    "lacks",
    "operand",
    "place",
    "reference",
    "witness",
    "witness_arguments",
]


#: What a kernel raises for a call that its signature allows, where it lacks the combination.
REFUSALS = (ic.OperatorNotSupported, ic.DTypeError, ic.ShapeError, ic.StrideError)


# ---- on a device ---------------------------------------------------------------------------------


class Image:
    """The memory of a drawn tensor, between guard elements that must keep their pattern.

    Attributes
    ----------
    drawn : DrawnTensor
    before : numpy.ndarray
        What the storage holds before the call, as opaque items.
    """

    def __init__(self, drawn: DrawnTensor) -> None:
        self.drawn = drawn
        size, layout = itemsize(drawn.dtype), drawn.layout
        pattern = np.resize(np.frombuffer(b"\xa5\x3c\x96\x5a\xc3", np.uint8), layout.size * size)
        self.before = pattern.copy().view(f"V{size}")
        if drawn.values is not None:
            layout.of(self.before)[...] = encode(drawn.values, drawn.dtype)

    def memory(self) -> np.ndarray:
        """Read what the storage holds after the call, guards included."""
        raise NotImplementedError

    def values(self) -> np.ndarray:
        """Read the tensor's values."""
        return decode(self.drawn.layout.of(self.memory()), self.drawn.dtype)

    def strayed(self, *, written: bool) -> bool:
        """Tell whether memory changed that should not: the guards, or all of it where nothing is written."""
        after, before = self.memory(), self.before.copy()
        if written:
            for memory in (after, before):
                self.drawn.layout.of(memory)[...] = np.zeros((), before.dtype)
        return after.tobytes() != before.tobytes()


class PlacedTensor(Image):
    """A drawn tensor in a device's memory."""

    def __init__(self, drawn: DrawnTensor, device: ic.device) -> None:
        super().__init__(drawn)
        layout = drawn.layout
        self.storage = ic.from_numpy(self.before.view(np.uint8)).to(device)
        self.tensor = ic.strided_from_blob(
            self.storage.data_ptr() + layout.offset * itemsize(drawn.dtype),
            layout.shape,
            layout.strides,
            dtype=getattr(ic, NAMES[drawn.dtype]),
            device=device,
        )

    def memory(self) -> np.ndarray:
        """Read the storage back to the host."""
        ic.synchronize(self.tensor.device)
        content = np.array(self.storage.to("cpu").numpy())
        return content.view(self.before.dtype)


#: Short name of a dtype -> its name in the `infinicore` namespace.
NAMES = {short: long for short, (_, long) in DTYPES.items()}


def place(call: DrawnCall, make: Callable[[DrawnTensor], Image]) -> list[Any]:
    """Give every tensor of a call its memory: an entry per slot, as in the call."""
    placed: list[Any] = []
    made: dict[int, Image] = {}
    for value in call.slots:
        if isinstance(value, DrawnTensor):
            image = made[id(value)] = made.get(id(value)) or make(value)  # one tensor in two slots is one
            placed.append(image)
        elif isinstance(value, tuple) and value and isinstance(value[0], DrawnTensor):
            placed.append(tuple(make(item) for item in value))
        else:
            placed.append(value)
    for out, given in call.alias.items():
        placed[out] = placed[given]
    return placed


def operand(item: Any) -> Any:
    """Return what a call passes for a placed slot: its tensor, a list of tensors, or the scalar itself."""
    if isinstance(item, PlacedTensor):
        return item.tensor
    if isinstance(item, tuple) and item and isinstance(item[0], PlacedTensor):
        return [part.tensor for part in item]
    return item


def invoke(
    schema: Schema, function: Callable[..., Any], slots: list[Any], *, give_out: bool
) -> tuple[Any, ...]:
    """Call an operator as Python does.

    Parameters
    ----------
    schema
        Its signature.
    function
        What to call, e.g. ``infinicore.add``.
    slots
        An entry per slot: tensor, list of tensors, scalar or None.
    give_out
        Pass ``out=``.

    Returns
    -------
    tuple
        The tensors that came back, one per slot of ``schema.call.returns``.
    """
    positional, keywords = [], {}
    skipped = False  # what comes behind a parameter that is not passed needs its name
    for parameter in schema.call.parameters:
        if parameter.slot == CallParameter.RESERVED:
            skipped = True
            continue
        if parameter.slot >= 0 and schema.parameters[parameter.slot].role == "out":
            continue  # part of ``out=``, too
        if parameter.slot == CallParameter.OUT:
            inout = [index for index in schema.call.outputs if schema.parameters[index].role == "inout"]
            if give_out or inout:
                outs = tuple(slots[index] for index in schema.call.outputs)
                keywords[parameter.name] = outs if len(outs) > 1 else outs[0]
        elif parameter.keyword_only or skipped:
            keywords[parameter.name] = slots[parameter.slot]
        else:
            positional.append(slots[parameter.slot])
    result = function(*positional, **keywords)
    return result if isinstance(result, tuple) else (result,)


@functools.cache  # an operator lives as long as the process
def operator_of(schema: Schema) -> Operator:
    """Return the operator itself, where `infinicore.ops` has a function over it."""
    return Operator(schema)


class Launch:
    """A call on a device: it has its tensors when it is made, runs when it is called, any number of times.

    Attributes
    ----------
    call : DrawnCall
    device : device
    placed : list
        The memory of its tensors, from `place`.
    slots : list
        What the call passes: a tensor, a list of tensors, a scalar or None per slot.
    returned : dict of int to Tensor
        Output slot -> what came back last.
    """

    def __init__(self, call: DrawnCall, device: ic.device) -> None:
        self.call, self.device = call, device
        self.placed = place(call, lambda drawn: PlacedTensor(drawn, device))
        self.slots = [operand(item) for item in self.placed]
        self.returned: dict[int, ic.Tensor] = {}

    def __call__(self, function: Callable[..., Any] | None = None) -> None:
        """Run it, without waiting: with the operator, or with a descriptor of it."""
        function = getattr(ic.ops, self.call.schema.call.name) if function is None else function
        results = invoke(self.call.schema, function, self.slots, give_out=self.call.give_out)
        self.returned = dict(zip(self.call.schema.call.returns, results, strict=True))

    def describe(self) -> Any:
        """Make a descriptor for it (`Operator.describe`)."""
        describe = operator_of(self.call.schema).describe
        (descriptor,) = invoke(self.call.schema, describe, self.slots, give_out=self.call.give_out)
        return descriptor

    def _given(self, parameter: Parameter) -> bool:
        return self.call.give_out or parameter.role == "inout"

    def values(self) -> dict[int, np.ndarray]:
        """Read the results, once they are there: output slot -> values."""
        return {
            p.index: self.placed[p.index].values()
            if self._given(p)
            else read(self.returned[p.index], self.call.slots[p.index].dtype)
            for p in self.call.schema.outputs
        }

    def problems(self) -> list[str]:
        """List how what came back differs in kind from what the signature promises."""
        found = []
        for p in self.call.schema.outputs:
            result = self.returned.get(p.index)
            if not self._given(p):
                assert result is not None
                found += differences(p, self.call.slots[p.index], result, self.device)
            elif (
                result is not None
                and result.data_ptr() != self.placed[p.index].tensor.data_ptr()
                and result.numel()
            ):
                found.append(f"{p.name}: what came back is not the tensor that was given")
        return found


# ---- what is right -------------------------------------------------------------------------------


def widened(drawn: DrawnTensor) -> np.ndarray:
    """Return the values of a tensor, rounded to its dtype, then exact in float64, complex128 or integers."""
    assert drawn.values is not None
    kind = drawn.values.dtype.kind
    if kind in "biu":
        return drawn.values
    return drawn.values.astype(np.complex128 if kind == "c" else np.float64)


def body_values(call: DrawnCall, convert: Callable[[DrawnTensor], np.ndarray] = widened) -> list[Any]:
    """Return what `Schema.run_reference` takes for a call; `convert` makes the arrays of its inputs."""
    schema, values = call.schema, list(call.slots)
    for p in schema.tensors:
        value = values[p.index]
        if p.role == "out":
            values[p.index] = np.empty(value.layout.shape, NUMPY[value.dtype])
        elif isinstance(value, tuple):
            values[p.index] = tuple(convert(item) for item in value)
        elif value is not None:
            values[p.index] = convert(value)
    resolved = call.resolved()
    for p in schema.scalars:
        values[p.index] = resolved.values[p.index]
    for index in resolved.expand:
        if values[index] is not None:
            values[index] = np.broadcast_to(values[index], resolved.specs[index].shape)
    return values


def reference(call: DrawnCall) -> list[np.ndarray]:
    """Compute the outputs of a call with the operator's NumPy body, in float64: one array per output slot."""
    values = body_values(call)
    # A mean of nothing is NaN, as it should be; NumPy also warns about it.
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return [np.asarray(array) for array in call.schema.run_reference(values)]


def describe(
    parameter: Parameter, got: np.ndarray, want: np.ndarray, wrong: np.ndarray, allowed: Tolerance
) -> str:
    """Say how a result is wrong: how often, and where first."""
    where = tuple(int(index[0]) for index in np.nonzero(np.atleast_1d(wrong)))
    first = where if got.ndim else ()
    return (
        f"{parameter.name}: {int(wrong.sum())} of {wrong.size} elements are wrong; first at {list(first)}: "
        f"got {got[first]!r}, want {want[first]!r} (allowed: {allowed})"
    )


def check(
    call: DrawnCall, device: ic.device, *, tolerances: Callable[[str, str], Tolerance] = tolerance
) -> float:
    """Run a call on a device and compare everything it did with what it should have done.

    Parameters
    ----------
    call
        Drawn by `infinicore.testing.strategies.calls`.
    device
        Where to run it.
    tolerances
        ``(operator, dtype) -> Tolerance``.

    Returns
    -------
    float
        How far the worst element of the results lies from the reference, in units in the last place.

    Raises
    ------
    AssertionError
        A result is wrong, has the wrong shape, dtype or device, or other memory was written too.
    infinicore.Error
        One of `REFUSALS`: the device has no kernel for this combination.
    """
    schema = call.schema
    launch = Launch(call, device)
    launch()
    problems = launch.problems()
    got = launch.values()
    want = reference(call)
    problems += judge(call, launch.placed, got, tolerances, want)
    assert not problems, f"{call} on {device}:\n  " + "\n  ".join(problems)
    dtypes = [call.slots[p.index].dtype for p in schema.outputs]
    errors = [
        distance(got[p.index], array, tolerances(schema.name, NAMES[dtype]), PARTS.get(dtype, dtype))
        for p, array, dtype in zip(schema.outputs, want, dtypes, strict=True)
    ]
    return max(errors)


def judge(
    call: DrawnCall,
    placed: list[Any],
    got: dict[int, np.ndarray],
    tolerances: Callable[[str, str], Tolerance] = tolerance,
    wanted: list[np.ndarray] | None = None,
) -> list[str]:
    """List what is wrong with the results of a call.

    Parameters
    ----------
    call
        What was run.
    placed
        The memory of its tensors, from `place`.
    got
        Output slot -> the values found there.
    tolerances
        ``(operator, dtype) -> Tolerance``.
    wanted
        What `reference` gives for the call, where that is known already.
    """
    schema, problems = call.schema, []
    for p, want in zip(schema.outputs, reference(call) if wanted is None else wanted, strict=True):
        dtype, values = call.slots[p.index].dtype, got[p.index]
        if values.shape != want.shape:
            problems.append(f"{p.name}: shape {values.shape}, the reference has {want.shape}")
            continue
        allowed = tolerances(schema.name, NAMES[dtype])
        wrong = mismatches(values, want, allowed, PARTS.get(dtype, dtype))
        if wrong.any():
            problems.append(describe(p, values, want, wrong, allowed))

    written = {p.index for p in schema.outputs if call.give_out or p.role == "inout"}
    written |= set(call.alias.values())
    results = {id(placed[index]) for index in written}
    for p in schema.tensors:
        parts = placed[p.index] if isinstance(placed[p.index], tuple) else (placed[p.index],)
        if any(part is not None and part.strayed(written=id(part) in results) for part in parts):
            problems.append(f"{p.name}: memory was written that does not belong to a result")
    return problems


def differences(parameter: Parameter, drawn: DrawnTensor, result: ic.Tensor, device: ic.device) -> list[str]:
    """List how an allocated result differs in kind from what the signature promises."""
    problems = []
    if tuple(result.shape) != drawn.layout.shape:
        problems.append(f"{parameter.name}: shape {tuple(result.shape)}, should be {drawn.layout.shape}")
    if result.dtype is not getattr(ic, NAMES[drawn.dtype]):
        problems.append(f"{parameter.name}: {result.dtype}, should be {NAMES[drawn.dtype]}")
    if result.device != device:
        problems.append(f"{parameter.name}: on {result.device}, should be on {device}")
    return problems


def read(tensor: ic.Tensor, dtype: str) -> np.ndarray:
    """Read the values of any tensor, whichever dtype it has."""
    ic.synchronize(tensor.device)
    host = tensor.to("cpu").contiguous()
    size = itemsize(dtype)
    count = host.numel() * size
    if not count:
        return np.zeros(tuple(tensor.shape), NUMPY[dtype])
    flat = ic.from_blob(host.data_ptr(), (count,), dtype=ic.uint8, device="cpu")
    memory = np.array(flat.numpy()).view(f"V{size}").reshape(tuple(tensor.shape))
    return decode(memory, dtype)


# ---- the second witness --------------------------------------------------------------------------


def _attention(torch: Any, a: dict[str, Any]) -> tuple[Any, ...]:
    """Write k and v into the caches at pos, then attend causally, queries grouped over key heads."""
    (heads, length, _), pos = a["q"].shape, a["pos"]
    k_cache, v_cache = a["k_cache"].clone(), a["v_cache"].clone()
    k_cache[:, pos : pos + length], v_cache[:, pos : pos + length] = a["k"], a["v"]
    groups = heads // k_cache.shape[0] if k_cache.shape[0] else 1
    keys, values = (c[:, : pos + length].repeat_interleave(groups, 0) for c in (k_cache, v_cache))
    mask = torch.ones(length, pos + length, dtype=torch.bool).tril(pos)
    out = torch.nn.functional.scaled_dot_product_attention(a["q"][None], keys[None], values[None], mask)[0]
    return out.permute(1, 0, 2), k_cache, v_cache


def _sdpa(torch: Any, a: dict[str, Any]) -> Any:
    return torch.nn.functional.scaled_dot_product_attention(
        a["query"],
        a["key"],
        a["value"],
        a["attn_mask"],
        is_causal=a["is_causal"],
        scale=a["scale"],
        enable_gqa=a["enable_gqa"],
    )


def _layer_norm(torch: Any, a: dict[str, Any]) -> tuple[Any, ...]:
    x = a["input"]
    centred = x - x.mean(-1, keepdim=True)
    deviation = 1 / torch.sqrt((centred * centred).mean(-1, keepdim=True) + a["eps"])
    output = torch.nn.functional.layer_norm(x, x.shape[-1:], a["weight"], a["bias"], a["eps"])
    return output, centred * deviation, deviation[..., 0]


def _rms_norm(torch: Any, x: Any, weight: Any, epsilon: float) -> Any:
    return torch.nn.functional.rms_norm(x, x.shape[-1:], weight, epsilon)


def _add_rms_norm(torch: Any, a: dict[str, Any]) -> tuple[Any, ...]:
    total = a["a"] + a["b"]
    return _rms_norm(torch, total, a["weight"], a["epsilon"]), total


def _linear(torch: Any, a: dict[str, Any]) -> Any:
    product = a["alpha"] * torch.nn.functional.linear(a["input"], a["weight"])
    return product if a["bias"] is None else product + a["bias"]


def _conv(torch: Any, a: dict[str, Any]) -> Any:
    x, w = a["x"], a["w"]
    function = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[
        x.ndim - 3
    ]
    groups = x.shape[1] // w.shape[1]
    return function(x, w, a["b"], a["strides"], a["pads"], a["dilations"], groups)


def _causal_softmax(torch: Any, a: dict[str, Any]) -> Any:
    x = a["x"]
    rows, columns = x.shape[-2:]
    hidden = ~torch.ones(rows, columns, dtype=torch.bool).tril(columns - rows)
    return torch.softmax(x.masked_fill(hidden, float("-inf")), -1)


def _silu_and_mul(torch: Any, a: dict[str, Any]) -> Any:
    gate, value = a["input"].chunk(2, -1)
    return torch.nn.functional.silu(gate) * value


def _topksoftmax(torch: Any, a: dict[str, Any]) -> tuple[Any, ...]:
    indices = torch.argsort(a["x"], dim=-1, descending=True, stable=True)[:, : a["topk"]]
    values = torch.softmax(a["x"], -1).gather(1, indices)
    return values / values.sum(-1, keepdim=True) if a["norm"] else values, indices


def _clip(torch: Any, a: dict[str, Any]) -> Any:
    """Minimum, then maximum: clamp has another answer where the bounds cross."""
    upper = a["x"] if a["max_val"] is None else torch.minimum(a["x"], a["max_val"])
    return upper if a["min_val"] is None else torch.maximum(upper, a["min_val"])


def _whole(function: str) -> Callable[[Any, dict[str, Any]], Any]:
    """Round floats; PyTorch has no such function of booleans."""
    return lambda torch, a: (
        getattr(torch, function)(a["input"]) if a["input"].is_floating_point() else a["input"]
    )


def _over(function: str) -> Callable[[Any, dict[str, Any]], Any]:
    """Make the witness of a reduction: PyTorch's, over a tuple of dimensions."""

    def reduced(torch: Any, a: dict[str, Any]) -> Any:
        axes = a["dim"] or tuple(range(a["input"].ndim))
        named = {"unbiased": a["unbiased"]} if "unbiased" in a else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about a variance without degrees of freedom
            return getattr(torch, function)(a["input"], axes, keepdim=a["keepdim"], **named)

    return reduced


def _sum(torch: Any, a: dict[str, Any]) -> Any:
    return _over("sum")(torch, a) if a["input"].ndim else a["input"].clone()


def _index_add(torch: Any, a: dict[str, Any]) -> Any:
    scale = a["alpha"] if a["input"].is_floating_point() or a["input"].is_complex() else int(a["alpha"])
    return torch.index_add(a["input"], a["dim"], a["index"].long(), a["source"] * scale)


def _scatter(torch: Any, a: dict[str, Any]) -> Any:
    slots = a["input"], a["dim"], a["index"].long(), a["src"]
    if a["reduction"].name == "NONE":
        return torch.scatter(*slots)
    return torch.scatter_reduce(*slots, {"ADD": "sum", "MULTIPLY": "prod"}[a["reduction"].name])


def _topk(torch: Any, a: dict[str, Any]) -> tuple[Any, ...]:
    # PyTorch's own does not say which of equal elements it takes.
    order = torch.sort(a["input"], dim=a["dim"], descending=a["largest"], stable=True).indices
    order = order.narrow(a["dim"], 0, a["k"])
    if not a["sorted"]:
        order = torch.sort(order, dim=a["dim"]).values
    return torch.gather(a["input"], a["dim"], order), order


def _prod(torch: Any, a: dict[str, Any]) -> Any:
    result = a["input"]
    for axis in reversed(a["dim"] or tuple(range(result.ndim))):
        result = torch.prod(result, axis, a["keepdim"], dtype=result.dtype)
    return result


def _cross_entropy(torch: Any, a: dict[str, Any]) -> Any:
    """Rows of logits, since PyTorch's own shapes have the classes second only."""
    x, target = a["x"], a["target"].long()
    first = min(1, x.ndim - 1)
    second = x.shape[:first] + x.shape[first + 1 :] == target.shape
    rows = x.movedim(first if second else -1, -1)
    names = {0: "none", 1: "mean", 2: "sum"}
    result = torch.nn.functional.cross_entropy(
        rows.reshape(target.numel(), rows.shape[-1]),
        target.reshape(-1),
        a["weight"],
        ignore_index=a["ignore_index"],
        reduction=names[a["reduction"]],
    )
    return result if a["reduction"] else result.reshape(target.shape)


def _nibbles(torch: Any, words: Any, axis: int, order: tuple[int, ...]) -> Any:
    """Unpack eight 4-bit numbers of every word along `axis`: number c from nibble ``order[c]``."""
    numbers = (words.unsqueeze(axis + 1) >> _shifts(torch, order, axis, words.ndim)) & 15
    return numbers.flatten(axis, axis + 1)


def _shifts(torch: Any, order: tuple[int, ...], axis: int, ndim: int) -> Any:
    shape = [1] * (ndim + 1)
    shape[axis + 1] = len(order)
    return (4 * torch.tensor(order, dtype=torch.int32)).reshape(shape)


def _dequantize_awq(torch: Any, a: dict[str, Any]) -> Any:
    """Groups of as many rows each; the columns of a word are interleaved."""
    order, rows = (0, 4, 1, 5, 2, 6, 3, 7), len(a["qweight"]) // len(a["scales"])
    weight, zero = (_nibbles(torch, a[name], 1, order) for name in ("qweight", "zeros"))
    return (weight - zero.repeat_interleave(rows, 0)) * a["scales"].repeat_interleave(rows, 0)


def _dequantize_gptq(torch: Any, a: dict[str, Any]) -> Any:
    """Rows of any group; zeros are stored less one."""
    order, group = tuple(range(8)), a["g_idx"].long()
    weight, zero = _nibbles(torch, a["qweight"], 0, order), _nibbles(torch, a["zeros"], 1, order)
    return (weight - ((zero + 1) % 16)[group]) * a["scales"][group]


def _int8_gemm(torch: Any, a: dict[str, Any]) -> Any:
    product = (a["x"].long() @ a["weights"].long()).double()
    product = product * a["x_scale"].reshape(-1, 1) * a["weights_scale"].reshape(1, -1)
    return product if a["bias"] is None else product + a["bias"]


def _int8_rows(torch: Any, x: Any, symmetric: bool) -> tuple[Any, ...]:
    """Quantise the last axis: ``(packed, scale, zero)``."""
    # Tensors by tensors: PyTorch divides a number by a tensor with a reciprocal, and rounds twice.
    if symmetric:
        largest = x.abs().amax(-1, keepdim=True).clamp(min=1e-10)
        steps = torch.full_like(largest, 127) / largest
        return torch.round(x * steps).to(torch.int8), largest / 127, torch.zeros_like(largest)
    low, high = torch.aminmax(x, dim=-1, keepdim=True)
    span = (high - low).clamp(min=1e-8)
    steps = torch.full_like(span, 255) / span
    packed = (torch.round((x - low) * steps) - 128).clamp(-128, 127).to(torch.int8)
    return packed, span / 255, -128 - low * steps


def _per_tensor_quant_int8(torch: Any, a: dict[str, Any]) -> tuple[Any, ...]:
    x, scale, zero = a["x"], a["x_scale"], a["x_zero"]
    if not a["is_static"]:
        packed, scale, zero = _int8_rows(torch, x.reshape(-1), a["symmetric"])
        return packed.reshape(x.shape), scale, zero
    moved = x / scale[0] if a["symmetric"] else x / scale[0] + zero[0]
    return torch.round(moved).clamp(-128, 127).to(torch.int8), scale, zero


#: Operator -> ``function(torch, arguments by slot name)``, for those that PyTorch has too.
WITNESSES: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "add": lambda torch, a: a["input"] + a["other"],
    "sub": lambda torch, a: a["input"] - a["other"],
    "mul": lambda torch, a: a["input"] * a["other"],
    "div": lambda torch, a: a["input"] / a["other"],
    "pow": lambda torch, a: torch.pow(a["input"], a["other"]),
    "exp": lambda torch, a: torch.exp(a["input"]),
    "log": lambda torch, a: torch.log(a["input"]),
    "sqrt": lambda torch, a: torch.sqrt(a["input"]),
    "rsqrt": lambda torch, a: torch.rsqrt(a["input"]),
    "reciprocal": lambda torch, a: torch.reciprocal(a["input"]),
    "floor": _whole("floor"),
    "ceil": _whole("ceil"),
    "round": _whole("round"),
    "maximum": lambda torch, a: torch.maximum(a["input"], a["other"]),
    "minimum": lambda torch, a: torch.minimum(a["input"], a["other"]),
    "where": lambda torch, a: torch.where(a["condition"], a["input"], a["other"]),
    "clip": _clip,
    "clip_scalar": lambda torch, a: torch.maximum(
        torch.clamp(a["input"], max=a["max_val"]), torch.tensor(a["min_val"]).double()
    ),
    "logical_and": lambda torch, a: torch.logical_and(a["input"].bool(), a["other"].bool()),
    "logical_or": lambda torch, a: torch.logical_or(a["input"].bool(), a["other"].bool()),
    "logical_xor": lambda torch, a: torch.logical_xor(a["input"].bool(), a["other"].bool()),
    "logical_not": lambda torch, a: torch.logical_not(a["input"]),
    "equal": lambda torch, a: a["input"] == a["other"],
    "not_equal": lambda torch, a: a["input"] != a["other"],
    "less": lambda torch, a: a["input"] < a["other"],
    "less_equal": lambda torch, a: a["input"] <= a["other"],
    "greater": lambda torch, a: a["input"] > a["other"],
    "greater_equal": lambda torch, a: a["input"] >= a["other"],
    "neg": lambda torch, a: -a["input"],
    "abs": lambda torch, a: torch.abs(a["input"]),
    "elu": lambda torch, a: torch.nn.functional.elu(a["input"], a["alpha"]),
    "gelu": lambda torch, a: torch.nn.functional.gelu(a["input"]),
    "gelu_tanh": lambda torch, a: torch.nn.functional.gelu(a["input"], approximate="tanh"),
    "hardswish": lambda torch, a: torch.nn.functional.hardswish(a["input"]),
    "hardtanh": lambda torch, a: torch.nn.functional.hardtanh(a["input"], a["min_val"], a["max_val"]),
    "leaky_relu": lambda torch, a: torch.nn.functional.leaky_relu(a["input"], a["negative_slope"]),
    "quick_gelu": lambda torch, a: a["input"] * torch.sigmoid(1.702 * a["input"]),
    "relu": lambda torch, a: torch.relu(a["input"]),
    "sigmoid": lambda torch, a: torch.sigmoid(a["input"]),
    "silu": lambda torch, a: torch.nn.functional.silu(a["input"]),
    "silu_and_mul": _silu_and_mul,
    "softplus": lambda torch, a: torch.nn.functional.softplus(a["input"], a["beta"], a["threshold"]),
    "swiglu": lambda torch, a: a["input"] * torch.nn.functional.silu(a["other"]),
    "tanh": lambda torch, a: torch.tanh(a["input"]),
    "zeros": lambda torch, a: torch.zeros_like(a["x"]),
    "ones": lambda torch, a: torch.ones_like(a["x"]),
    "gemm": lambda torch, a: a["alpha"] * (a["a"] @ a["b"]) + (a["beta"] * a["c"] if a["beta"] else 0),
    "linear": _linear,
    "conv": _conv,
    "rms_norm": lambda torch, a: _rms_norm(torch, a["x"], a["weight"], a["epsilon"]),
    "add_rms_norm": _add_rms_norm,
    "layer_norm": _layer_norm,
    "lp_norm": lambda torch, a: torch.nn.functional.normalize(a["input"], a["p"], a["axis"], a["eps"]),
    "logsoftmax": lambda torch, a: torch.log_softmax(a["input"], a["axis"]),
    "softmax": lambda torch, a: torch.softmax(a["x"], a["axis"]),
    "causal_softmax": _causal_softmax,
    "topksoftmax": _topksoftmax,
    "attention": _attention,
    "scaled_dot_product_attention": _sdpa,
    "embedding": lambda torch, a: torch.nn.functional.embedding(a["input"].long(), a["weight"]),
    "cat": lambda torch, a: torch.cat(list(a["tensors"]), a["dim"]),
    "gather": lambda torch, a: torch.gather(a["input"], a["dim"], a["index"].long()),
    "index_select": lambda torch, a: torch.index_select(a["input"], a["dim"], a["index"].long()),
    "index_add": _index_add,
    "scatter": _scatter,
    "count_nonzero": lambda torch, a: torch.count_nonzero(a["input"]),
    "masked_select": lambda torch, a: torch.masked_select(a["input"], a["mask"]),
    "sort": lambda torch, a: torch.sort(a["input"], dim=a["dim"], descending=a["descending"], stable=True),
    "topk": _topk,
    "rearrange": lambda torch, a: a["src"].clone(),
    "sum": _sum,
    "mean": _over("mean"),
    "prod": _prod,
    "var": _over("var"),
    "all": _over("all"),
    "any": _over("any"),
    "amax": _over("amax"),
    "amin": _over("amin"),
    "argmax": lambda torch, a: torch.argmax(a["input"], a["dim"], a["keepdim"]),
    "argmin": lambda torch, a: torch.argmin(a["input"], a["dim"], a["keepdim"]),
    "max": lambda torch, a: tuple(torch.max(a["input"], a["dim"], a["keepdim"])),
    "min": lambda torch, a: tuple(torch.min(a["input"], a["dim"], a["keepdim"])),
    "cumsum": lambda torch, a: torch.cumsum(a["input"], a["dim"], dtype=a["input"].dtype),
    "cross_entropy": _cross_entropy,
    "dequantize_awq": _dequantize_awq,
    "dequantize_gptq": _dequantize_gptq,
    "int8_gemm": _int8_gemm,
    "per_channel_quant_int8": lambda torch, a: _int8_rows(torch, a["x"], a["symmetric"]),
    "per_tensor_quant_int8": _per_tensor_quant_int8,
    "per_tensor_dequant_int8": lambda torch, a: (
        (a["x_packed"].double() - (0.0 if a["x_zero"] is None else a["x_zero"][0])) * a["x_scale"][0]
    ),
}


def witness_arguments(call: DrawnCall, convert: Callable[[DrawnTensor], Any]) -> dict[str, Any]:
    """Return what a function of `WITNESSES` takes for a call; `convert` makes PyTorch's tensors."""
    resolved = call.resolved()

    def converted(value: Any) -> Any:
        if isinstance(value, DrawnTensor):
            return convert(value)
        return tuple(map(converted, value)) if isinstance(value, tuple) else value

    arguments: dict[str, Any] = {}
    for p in call.schema.parameters:
        if p.role == "out":
            continue
        arguments[p.name] = converted(call.slots[p.index]) if p.is_tensor else resolved.values[p.index]
        if arguments[p.name] is not None and p.is_tensor and p.index in resolved.expand:
            arguments[p.name] = arguments[p.name].expand(resolved.specs[p.index].shape)
    return arguments


def in_torch(drawn: DrawnTensor, torch: Any) -> Any:
    """Make PyTorch's tensor of a drawn one, in its own dtype; a TypeError where PyTorch has no such dtype."""
    return torch.from_numpy(np.array(widened(drawn))).to(getattr(torch, NAMES[drawn.dtype], None))


def lacks(error: Exception) -> bool:
    """Tell whether PyTorch says with `error` that it has no such operator of this dtype."""
    return "not implemented for" in str(error) or "does not support" in str(error)


def witness(call: DrawnCall, torch: Any) -> list[np.ndarray] | None:
    """Compute the outputs of a call with PyTorch, in float64; None where it has no such operator or dtype."""
    function = WITNESSES.get(call.schema.name)
    if function is None:
        return None
    arguments = witness_arguments(call, lambda drawn: torch.from_numpy(np.array(widened(drawn))))
    try:
        result = function(torch, arguments)
    except (NotImplementedError, RuntimeError) as error:
        if lacks(error):
            return None
        raise
    results = result if isinstance(result, tuple) else (result,)
    return [array.numpy() for array in results]


def agree(got: np.ndarray, want: np.ndarray) -> bool:
    """Tell whether the reference and the second witness mean the same, up to rounding in float64."""
    if want.dtype.kind in "biu":
        if want.dtype.itemsize == got.dtype.itemsize == 8:  # PyTorch sums u64 as if it were i64
            want = want.astype(got.dtype)
        return bool((got == want).all())
    with np.errstate(all="ignore"):
        return bool(np.allclose(got, want, rtol=1e-9, atol=1e-9, equal_nan=True))
