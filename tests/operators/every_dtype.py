# Calls every operator with every dtype, in all of its tensors and in each of them alone, and says which
# before it does, so that the last line of a process that died names the culprit. Run by test_errors.py.
"""Every operator with every dtype."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import infinicore as ic
from infinicore.schema import DTYPES, OPERATORS

sys.path.insert(0, str(Path(__file__).parent))
from test_errors import LONG, arguments, call, shape_of

survived = refused = 0
for name, schema in sorted(OPERATORS.items()):
    tensors = [p for p in schema.tensors if p.kind == "tensor" and p.role != "out"]
    combinations = [dict.fromkeys((p.name for p in tensors), dtype) for dtype in DTYPES]
    combinations += [{p.name: dtype} for p, dtype in itertools.product(tensors, DTYPES)]
    for dtypes in combinations:
        print(name, dtypes, flush=True)
        slots = arguments(schema)
        for tensor, dtype in dtypes.items():
            parameter = schema.by_name[tensor]
            slots[parameter.index] = ic.zeros(
                shape_of(schema, parameter), dtype=getattr(ic, LONG[dtype]), device="cpu"
            )
        if name == "cast":
            slots[0] = ic.empty(shape_of(schema, schema.parameters[1]), dtype=ic.float32, device="cpu")
        try:
            call(schema, slots)
            survived += 1
        except ic.Error:
            refused += 1
print(f"survived {survived}, refused {refused}")
