# The public names of infinicore. Importing it reads plug-in metadata at most: it touches no device,
# maps no vendor library, and imports neither NumPy nor torch.
"""One Python interface to every accelerator in the box.

>>> import infinicore as ic
>>> a = ic.ones((2, 3), dtype=ic.float32, device="cpu")
>>> (a + 1).tolist()
[[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]
"""

from infinicore import errors, schema
from infinicore.errors import *
from infinicore._backend import backends
from infinicore._device import device, device_info, memory_info, synchronize
from infinicore._dtype import ALIASES, DTYPES, dtype
from infinicore._storage import empty_cache, memory_stats, reset_peak_memory_stats
from infinicore._tensor import Tensor
from infinicore._stream import DeviceEvent, Stream, current_stream, stream
from infinicore import _dispatch

schema.wrap = _dispatch.Operator  # from here on an operator's signature becomes something to call

from infinicore._dispatch import cache_clear, cache_info, fallback, fallback_counts, set_cache_limit
from infinicore import context, ops
from infinicore.context import *
from infinicore.creation import *
from infinicore.graph import Graph, graph
from infinicore.printing import get_printoptions, printoptions, set_printoptions

# Names of `ops` that a creation function or Python itself claims stay reachable as infinicore.ops.<name>.
_OWN = {"zeros", "ones"}
globals().update({name: getattr(ops, name) for name in ops.__all__ if name not in _OWN})
for _entry in DTYPES:
    globals()[_entry.name] = _entry
for _alias, _name in ALIASES.items():
    globals()[_alias] = globals()[_name]

_LAZY = ("build", "distributed", "interop", "lib", "nn", "report", "testing", "utils")
# Names that are loaded, with the module they are defined in, when they are first used.
_HOMES = {"AllReduce": "distributed", "conv2d": "nn.functional"}


def squeeze(input, dim):
    """Return a view without dimension `dim`, which must have size 1.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.squeeze(ic.ones((2, 1, 3), dtype=ic.float32, device="cpu"), 1).shape
    [2, 3]
    """
    return input.squeeze(dim)


def unsqueeze(input, dim):
    """Return a view with a new dimension of size 1 at `dim`.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.unsqueeze(ic.ones((2, 3), dtype=ic.float32, device="cpu"), -1).shape
    [2, 3, 1]
    """
    return input.unsqueeze(dim)


def add_rms_norm_(y, residual_out, a, b, weight, epsilon=1e-5):
    """`add_rms_norm` into existing tensors; returns ``(y, residual_out)``.

    Examples
    --------
    >>> import infinicore as ic
    >>> a, b, y, total = (ic.ones((1, 2), dtype=ic.float32, device="cpu") for _ in range(4))
    >>> weight = ic.ones((2,), dtype=ic.float32, device="cpu")
    >>> _ = ic.add_rms_norm_(y, total, a, b, weight, 0.0)
    >>> y.tolist(), total.tolist()
    ([[1.0, 1.0]], [[2.0, 2.0]])
    """
    return ops.add_rms_norm(a, b, weight, epsilon, out=(y, residual_out))


def add_rms_norm_inplace(input, residual, weight, epsilon=1e-5):
    """`add_rms_norm` that writes over what it reads; returns ``(input, residual)``.

    `residual` becomes the sum ``input + residual``, and `input` its normalisation times `weight`.

    Examples
    --------
    >>> import infinicore as ic
    >>> input, residual = (ic.ones((1, 2), dtype=ic.float32, device="cpu") for _ in range(2))
    >>> weight = ic.ones((2,), dtype=ic.float32, device="cpu")
    >>> _ = ic.add_rms_norm_inplace(input, residual, weight, 0.0)
    >>> input.tolist(), residual.tolist()
    ([[1.0, 1.0]], [[2.0, 2.0]])
    """
    return ops.add_rms_norm(input, residual, weight, epsilon, out=(input, residual))


def _load_ntops():
    """Find ``ntops``, once: its operators then work on infinicore's tensors in place of torch's."""
    namespace = globals()
    try:
        import ntops
        import ntops.torch
    except ImportError:
        namespace.setdefault("use_ntops", False)
        namespace["ntops"] = None
        return
    import sys

    for name in ntops.torch.__all__:
        getattr(ntops.torch, name).__globals__["torch"] = sys.modules[__name__]
    namespace.setdefault("use_ntops", True)
    namespace["ntops"] = ntops


def __getattr__(name):
    if name == "__version__":
        with open(f"{__path__[0]}/VERSION") as file:  # the tree's one VERSION, packed into the wheel
            return file.read().strip()
    if name in ("use_ntops", "ntops"):
        _load_ntops()
        return globals()[name]
    if name in _LAZY or name in _HOMES:
        from importlib import import_module

        module = import_module(f"infinicore.{_HOMES.get(name, name)}")
        return getattr(module, name) if name in _HOMES else module
    raise AttributeError(f"module 'infinicore' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_LAZY, *_HOMES, "__version__", "ntops", "use_ntops"})


# Of the modules those that are for users and need nothing beside core (build and testing do).
_MODULES = ("context", "distributed", "errors", "interop", "lib", "nn", "ops", "report", "utils")
_hidden = {*_LAZY, *(name for name, value in globals().items() if isinstance(value, type(ops)))} - {*_MODULES}
__all__ = [name for name in __dir__() if not name.startswith("_") and name not in _hidden]
