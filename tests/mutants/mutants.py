# Known ways to break kernels and dispatch, one small patch each, and the tests that must notice. run.py
# applies them to copies of the tree; test_patches.py says when one no longer fits the source.
"""Seeded mutants: what the suite must catch."""

from __future__ import annotations

from dataclasses import dataclass

PROPERTIES = "tests/operators/test_properties.py"
ERRORS = "tests/operators/test_errors.py"
DISPATCH = "tests/core/test_dispatch.py"


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes
    ----------
    name : str
        What is wrong, and where.
    file : str
        The source, below ``infinicore-core/src/infinicore``.
    old, new : str
        What stands there, exactly once, and what the mistake makes of it.
    tests : tuple of str
        Node ids of pytest: what must fail. They pass on the tree as it is.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def extension(self) -> str | None:
        """The extension to build again, as INFINICORE_BUILD_ONLY calls it; None for Python."""
        if self.file.endswith(".py"):
            return None
        return self.file.partition("/")[0] if "/" in self.file else self.file.removesuffix(".pyx")


def result(*operators: str) -> tuple[str, ...]:
    """Name the property tests that compare results of operators with the reference."""
    return tuple(f"{PROPERTIES}::test_result_is_the_reference[cpu-{name}]" for name in operators)


def kernel(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    """Break a kernel of the CPU backend; a test that is no node id is an operator."""
    nodes = tuple(node for test in tests for node in ((test,) if "::" in test else result(test)))
    return Mutant(name, f"cpu/kernels/{file}.cpp", old, new, nodes)


MUTANTS = (
    # ---- layouts ----
    kernel(
        "dropped stride: inputs are gathered as if contiguous",
        "elementwise",
        "target[i] = source[i * stride];",
        "target[i] = source[i];",
        "add",
    ),
    kernel(
        "dropped stride: results are scattered as if contiguous",
        "elementwise",
        "target[i * stride] = source[i];",
        "target[i] = source[i];",
        *("abs", "add", "div", "mul", "neg", "silu", "sub"),
    ),
    kernel(
        "skipped tail: the last rows of a transposition are left out",
        "elementwise",
        "std::min(side, bottom - r), std::min(side, right - c), stream);",
        "std::min(side, bottom - r) / 8 * 8, std::min(side, right - c), stream);",
        "rearrange",
        "tests/core/test_tensor.py::test_large_copies_onto_itself",
    ),
    kernel(
        "missing contiguous check: embedding copies rows of strided weights",
        "rearrange",
        "if (out_column_ == 1 && weight_column_ == 1) {",
        "if (out_column_ == 1) {",
        "embedding",
    ),
    kernel(
        "wrong place: cat puts the third tensor where the second begins",
        "rearrange",
        "at += tensor.shape[call.dim];",
        "at = tensor.shape[call.dim];",
        "cat",
    ),
    kernel(
        "wrong axis: cat joins along the first dimension",
        "rearrange",
        "at * out.strides[call.dim] * size",
        "at * out.strides[0] * size",
        "cat",
    ),
    # ---- elements ----
    kernel("swapped operands: sub", "arithmetic", "return C(a - b);", "return C(b - a);", "sub"),
    kernel(
        "swapped operands: greater runs as it was planned, unswapped",
        "compare",
        "plan_.run(call.out->data, call.other->data, call.input->data);",
        "plan_.run(call.out->data, call.input->data, call.other->data);",
        "greater",
    ),
    kernel(
        "NaN swallowed: not_equal by order",
        "compare",
        "bool operator()(C a, C b) const { return a != b; }",
        "bool operator()(C a, C b) const { return a < b || a > b; }",
        f"{PROPERTIES}::test_nan_and_infinity[cpu-not_equal-f32]",
    ),
    kernel(
        "NaN swallowed: argmax takes it for the smallest",
        "argmax",
        "return value != value ? std::numeric_limits<Key>::max()",
        "return value != value ? std::numeric_limits<Key>::min()",
        f"{PROPERTIES}::test_the_first_nan_is_the_extremum",
    ),
    kernel(
        "wrong rounding: cast to integers goes to the nearest",
        "cast",
        "return To(int32_t(x));",
        "return To(int32_t(x < 0 ? x - From(0.5) : x + From(0.5)));",
        "cast",
    ),
    kernel(
        "wrong sign: half of a rotation turns the other way",
        "rope",
        "turned[half_ + i] = in[i] * sin[i] + in[half_ + i] * cos[i];",
        "turned[half_ + i] = in[half_ + i] * cos[i] - in[i] * sin[i];",
        "rope",
    ),
    # ---- reductions ----
    kernel(
        "skipped tail: sums of squares stop at whole registers",
        "norms",
        "load_first(x + i, std::min(L, n - i));",
        "load_first(x + i, 0);",
        "rms_norm",
    ),
    kernel(
        "wrong accumulate dtype: 64-bit integers are summed in 32 bits",
        "sum",
        "using total_t = std::conditional_t<std::is_floating_point_v<C>, double, C>;",
        "using total_t = std::conditional_t<std::is_floating_point_v<C>, double, int32_t>;",
        "sum",
    ),
    kernel(
        "off-by-one mask: causal_softmax hides the diagonal",
        "softmax",
        "n_ - queries_ + row++ % queries_ + 1);",
        "n_ - queries_ + row++ % queries_);",
        "causal_softmax",
    ),
    kernel(
        "wrong epsilon place: layer_norm adds it to the deviation",
        "norms",
        "/ std::sqrt(sum_of_squares(line, n_) / C(n_) + epsilon);\n          from_float(scale, deviation",
        "/ (std::sqrt(sum_of_squares(line, n_) / C(n_)) + epsilon);\n          from_float(scale, deviation",
        "layer_norm",
    ),
    kernel(
        "workspace undersized: layer_norm forgets the widened bias",
        "norms",
        "return weight_.bytes() + bias_.bytes();",
        "return weight_.bytes();",
        "tests/operators/test_workspace.py::test_nothing_beyond_the_workspace_is_touched[layer_norm]",
    ),
    # ---- attention, and softmax over an axis ----
    kernel(
        "wrong position: attention forgets how many tokens came before",
        "attention",
        "sequence.diagonal = pos;",
        "sequence.diagonal = 0;",
        "attention",
    ),
    kernel(
        "wrong mask: a batch shares the mask of its first sequence",
        "attention",
        "sequence.mask = mask ? at[4] : 0;",
        "sequence.mask = 0;",
        "tests/operators/test_attention.py::test_every_sequence_of_a_batch_has_its_own_mask[cpu]",
    ),
    kernel(
        "wrong alignment: mha takes the first key for the first query's own",
        "attention",
        "s.diagonal = s.keys - s.tokens;",
        "s.diagonal = 0;",
        "mha",
    ),
    Mutant(
        "stale maximum: sums of earlier blocks of keys keep their old scale",
        "cpu/kernels/flash.cpp",
        "for (int64_t i = 0; i < dv_; ++i) sum[i] *= shrink;",
        "",
        ("tests/operators/test_attention.py",),
    ),
    Mutant(
        "wrong axis: rows along an axis are read with the strides of the result",
        "cpu/rows.hpp",
        "in_step_ = in.strides[which];",
        "in_step_ = out.strides[which];",
        result("softmax", "logsoftmax", "lp_norm"),
    ),
    Mutant(
        "skipped rows: what lies beside the first panel of neighbours is left out",
        "cpu/rows.hpp",
        "std::min(beside_.extent - panel, width);",
        "panel ? 0 : std::min(beside_.extent, width);",
        (f"{PROPERTIES}::test_softmax_over_an_axis_with_many_neighbours[cpu]",),
    ),
    # ---- products ----
    kernel("beta ignored: gemm", "gemm", "C(call.beta)};", "C(0)};", "gemm"),
    kernel(
        "missing broadcast: every product of a batch takes the first b",
        "gemm",
        "        one.b += at[2];\n",
        "",
        "gemm",
    ),
    kernel(
        "swapped strides: linear does not transpose its weight",
        "gemm",
        "call.weight->strides[1],\n                     call.weight->strides[0],",
        "call.weight->strides[0],\n                     call.weight->strides[1],",
        "linear",
    ),
    kernel(
        "wrong padding: conv pads one element less",
        "conv",
        "run.first[d] = at * stride_[d] - pad_[d];",
        "run.first[d] = at * stride_[d] - pad_[d] + (pad_[d] > 0);",
        "conv",
    ),
    kernel(
        "missing check: embedding takes any index",
        "rearrange",
        "if (negative || uint64_t(index) >= uint64_t(vocabulary_))",
        "if (negative)",
        f"{ERRORS}::test_index_out_of_range[99-embedding-input-17]",
    ),
    # ---- what is checked before a kernel runs ----
    Mutant(
        "missing dtype check: operands may differ",
        "unify.py",
        "if bound != dtype:",
        "if False:",
        (f"{DISPATCH}::test_shape_and_dtype_errors_come_before_the_kernel",),
    ),
    Mutant(
        "missing shape check: a symbol may be two sizes",
        "unify.py",
        "bound = self.symbols.setdefault(d.name, size)\n        if bound != size:",
        "bound = self.symbols.setdefault(d.name, size)\n        if False:",
        (f"{ERRORS}::test_wrong_size",),
    ),
    Mutant(
        "missing broadcast: inputs keep their own shape",
        "unify.py",
        "changed.append(p.index)",
        "pass",
        (*result("add", "mul", "sub"), f"{DISPATCH}::test_broadcasting_makes_views"),
    ),
    Mutant(
        "wrong broadcast: size 1 beside size 0 gives 1",
        "unify.py",
        "joined.append(b if a == 1 else a)",
        "joined.append(max(a, b))",
        ("tests/core/test_schema.py",),
    ),
    # ---- dispatch ----
    Mutant(
        "stale descriptor: the last plan serves other layouts",
        "_dispatch.pyx",
        "and memcmp(descriptor.key, frame.key, frame.words * sizeof(uint64_t)) == 0):",
        "):",
        result("add"),
    ),
    Mutant(
        "stale descriptor: static numbers leave no trace in the key",
        "_dispatch.pyx",
        "push(frame, float_bits(slot.f64))",
        "push(frame, 0)",
        (f"{DISPATCH}::test_only_static_scalars_join_the_key",),
    ),
    Mutant(
        "missing stream order: kernels run on the default stream",
        "_dispatch.pyx",
        "descriptor.kernel.execute(descriptor.handle, scratch, bytes, frame.slots, stream)",
        "descriptor.kernel.execute(descriptor.handle, scratch, bytes, frame.slots, NULL)",
        ("tests/core/toy/test_dispatch_kernel.py::test_calls_go_to_the_current_stream",),
    ),
    Mutant(
        "missing overlap check: any operand that may be the output counts as exactly it",
        "_dispatch.pyx",
        "clash |= not (self.alias[j] and same_place(written, other))",
        "clash |= not self.alias[j]",
        (f"{DISPATCH}::test_overlapping_output_gives_the_right_result",),
    ),
    Mutant(
        "stale descriptor: static integers leave no trace in the key",
        "_dispatch.pyx",
        "                push(frame, TAG_INT)\n                push(frame, <uint64_t> slot.i64)",
        "                push(frame, TAG_INT)\n                push(frame, 0)",
        (f"{DISPATCH}::test_the_plan_of_one_axis_does_not_serve_another",),
    ),
    Mutant(
        "wrong tensor: an item of a list is the first one",
        "_dispatch.pyx",
        "            items[i] = tensor.view\n",
        "            items[i] = (<Tensor> PyTuple_GET_ITEM(given, 0)).view\n",
        result("cat"),
    ),
    # ---- collectives ----
    Mutant(
        "a reduction leaves out the last rank",
        "cpu/fold.hpp",
        "for (int64_t rank = 1; rank < ranks; ++rank) {",
        "for (int64_t rank = 1; rank < ranks - 1; ++rank) {",
        ("tests/distributed/test_collectives.py::test_every_reduction_of_every_dtype[float32-cpu-3]",),
    ),
    Mutant(
        "a rank that ended still looks alive",
        "cpu/collectives.cpp",
        "segment->claimed_elsewhere(peer)) return",
        "!segment->claimed_elsewhere(rank)) return",
        (
            "tests/distributed/test_processes.py::"
            "test_a_rank_that_ended_well_is_missed_only_when_it_is_needed",
        ),
    ),
    Mutant(
        "a rank begins the next round before the others are done",
        "cpu/collectives.cpp",
        "if (int32_t(seat_of(peer).round.load(std::memory_order_acquire) - round) < 0) return peer;",
        "if (int32_t(seat_of(peer).round.load(std::memory_order_acquire) - round) < -1) return peer;",
        ("tests/distributed/test_processes.py::test_every_member[2]",),
    ),
)
