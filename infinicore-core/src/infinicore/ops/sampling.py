# Drawing a token from logits. The random number is an argument, so that a draw can be repeated.
# The scalar form takes one distribution and plain values, the batch form one value per row as tensors.
"""Sampling operators."""

from infinicore.errors import InvalidArgument, ShapeError
from infinicore.schema import C, Elements, In, Out, Tensor, np, operator


def _sample_one(operator_name, logits, random_val, topp, topk, temperature):
    if topp == 0 or topk == 1 or temperature == 0:
        return np.argmax(logits)
    if temperature < 0:
        raise InvalidArgument(f"{operator_name}: temperature is {temperature}, but it must be at least 0")
    order = np.argsort(-logits, kind="stable")
    scaled = (logits[order] - logits[order[0]]) / temperature
    mass = np.cumsum(np.exp(scaled))
    mass = mass / mass[-1]
    last = len(order) if topk <= 0 else min(topk, len(order))
    threshold = random_val * min(mass[last - 1], topp)
    return order[min(np.searchsorted(mass, threshold), last - 1)]


def _sample_shape(probs):
    return [(probs.shape[:-1], "i32")]


def _nonempty(operator_name):
    def errors(probs):
        if probs.shape[-1] == 0:
            raise ShapeError(f"{operator_name}: logits has n=0, but a draw takes at least 1")

    return errors


def _sample_draw(draw, st):
    return {
        "n": draw(st.integers(1, 40)),
        # No simple fractions: with equal logits those fall on a step of the sum, where rounding decides.
        "random_val": draw(st.sampled_from([0.0, 0.1371, 0.4142, 0.7321, 0.9511])),
        "topp": draw(st.sampled_from([0.0, 0.3, 0.9, 1.0])),
        "topk": draw(st.sampled_from([0, 1, 3, 50])),
        "temperature": draw(st.sampled_from([0.0, 0.7, 1.0, 2.0])),
    }


@operator(
    python="random_sample(logits: probs, random_val, topp, topk, temperature, *, out=None)",
    c=C(
        "RandomSample",
        "result, probs",
        "result, probs, float random_val, float topp, int topk, float temperature",
        suffix="",
    ),
    errors=_nonempty("random_sample"),
    shape=_sample_shape,
    draw=_sample_draw,
)
def random_sample(
    result: Out[Tensor, "I"],
    probs: In[Tensor, "F n"],
    *,
    random_val: float,
    topp: float,
    topk: int,
    temperature: float,
):
    """Index drawn from logits, with temperature, top-k and top-p.

    Where ``topp``, ``temperature`` is 0 or ``topk`` is 1, the largest logit wins. Else the logits, largest
    first, become ``softmax(logits / temperature)``; the draw is the first index whose cumulative probability
    reaches ``random_val * min(probability of the topk largest, topp)``.

    Parameters
    ----------
    logits : Tensor
        Shape ``(n,)``, a float dtype, ``n`` at least 1.
    random_val : float
        What the generator gave, in [0, 1).
    topp : float
        Mass of the candidates; 1 keeps all.
    topk : int
        Number of the candidates; 0 and less, and anything from ``n``, keeps all.
    temperature : float
        Divides the logits; at least 0.
    out : Tensor, optional
        Where the result goes: 0-d, any integer dtype.

    Returns
    -------
    Tensor
        `out`, or a new 0-d tensor of i32.

    Raises
    ------
    ShapeError
        `logits` is not 1-d, or empty.
    DTypeError
        `logits` has no float dtype, or `out` no integer dtype.
    InvalidArgument
        `temperature` is negative.

    Notes
    -----
    Of equal logits the one with the lower index comes first. Nucleus sampling is that of Holtzman and others,
    "The Curious Case of Neural Text Degeneration" (2020). A recorded graph repeats the same draw: there, use
    `random_sample_batch`, which takes its parameters as tensors.
    """
    chosen = _sample_one("random_sample", probs, random_val, topp, topk, temperature)
    return np.asarray(chosen, result.dtype)


def _batch_draw(draw, st):
    return {
        "n": draw(st.integers(1, 40)),
        "random_val": Elements(0, 0.99),
        "topp": Elements(0, 1),
        "topk": Elements(0, 12),
        "temperature": Elements(0, 2),
    }


@operator(
    python="random_sample_batch(logits: probs, random_val, topp, topk, temperature, *, out=None)",
    c=C(
        "RandomSampleBatch",
        "result, probs",
        "result, probs, const float *random_val, const float *topp, const int *topk, "
        "const float *temperature, int batch_size@[b]",
        suffix="",
        of="RandomSample",
    ),
    errors=_nonempty("random_sample_batch"),
    shape=_sample_shape,
    draw=_batch_draw,
)
def random_sample_batch(
    result: Out[Tensor, "I b"],
    probs: In[Tensor, "F b n"],
    random_val: In[Tensor, "f32 b"],
    topp: In[Tensor, "f32 b"],
    topk: In[Tensor, "i32 b"],
    temperature: In[Tensor, "f32 b"],
):
    """One index per row of logits, each drawn with parameters of its own.

    Row ``i`` is `random_sample` of ``logits[i]`` with ``random_val[i]``, ``topp[i]``, ``topk[i]``,
    ``temperature[i]``.

    Parameters
    ----------
    logits : Tensor
        Shape ``(b, n)``, a float dtype, ``n`` at least 1.
    random_val, topp, temperature : Tensor
        Shape ``(b,)``, f32.
    topk : Tensor
        Shape ``(b,)``, i32.
    out : Tensor, optional
        Where the result goes: shape ``(b,)``, any integer dtype.

    Returns
    -------
    Tensor
        `out`, or a new tensor of i32.

    Raises
    ------
    ShapeError
        ``b`` differs, or ``n`` is 0.
    DTypeError
        A dtype is not the one named here.
    InvalidArgument
        A temperature is negative (where a device can check it).
    """
    rows = zip(probs, random_val, topp, topk, temperature, strict=True)
    return np.array([_sample_one("random_sample_batch", *row) for row in rows], result.dtype)
