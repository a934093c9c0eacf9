"""What layers compute, as functions: they hold no parameters and check what they are given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Variable
from ..autograd.modes import in_layer, modes
from ..autograd.ops import embedding, log_softmax, logsumexp, mul, relu, sigmoid, softmax, tanh
from ..autograd.ops.products import Linear
from ..backend import Array, generator, get_array_module
from . import fused
from ._checks import (
    check_arrays,
    check_dtypes,
    check_features,
    check_mask,
    check_ndim,
    check_pair,
    check_recurrence,
    check_shape,
    check_targets,
)


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x Wᵀ + b as `tinygrad_nlp.linear` computes it, with the argument named where shapes do not fit.

    Args:
        x: (…, in), array or Variable, as a rule of the dtype of the weight.
        weight: (out, in).
        bias: (out,), or None.

    Returns:
        (…, out), of the dtype that NumPy gives to the product: that of all, or the widest one.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: an argument that is neither an array nor a Variable.
    """
    try:
        if bias is not None and bias.shape != weight.shape[:1]:  # NumPy would broadcast some
            raise ValueError
        return Linear()(x, weight, bias)
    except (AttributeError, IndexError, TypeError, ValueError):  # looked into only here: small layers are many
        check_arrays("linear", x=x, weight=weight, bias=weight if bias is None else bias)
        check_ndim("linear", "weight", weight, "(out, in)")
        check_features("linear", x, "weight", weight)
        if bias is not None:
            check_shape("linear", "bias", bias, weight.shape[:1])
        raise


def rnn(
    x: Any,
    h: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    mask: Array | None = None,
    *,
    nonlinearity: str = "tanh",
    reverse: bool = False,
    recurrent_mask: Array | None = None,
) -> tuple[Any, Any]:
    """Simple recurrent network over a sequence (Elman, 1990): h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

    Args:
        x: (N, T, D), of a floating dtype that all arguments share.
        h: the first state h_0, (N, H).
        weight_ih: (H, D).
        weight_hh: (H, H).
        bias_ih: (H,), or None as `bias_hh` is.
        bias_hh: (H,), or None.
        mask: boolean (N, T). Where it is False the step is left out: state and output stay those of the step before.
        nonlinearity: "tanh" or "relu".
        reverse: run from the last step to the first: h_t follows from h_{t+1}.
        recurrent_mask: (N, H), what h_{t-1} is multiplied by before the product with W_hh, the same at all steps: 0 or
            1 / (1 - p) in variational dropout (Gal and Ghahramani, 2016).

    Returns:
        The outputs h_1 … h_T (N, T, H), whose memory backward reads, and the last state (N, H): h_T, or h_1 in reverse.

    Raises:
        ValueError: shapes that do not fit, no steps, or another nonlinearity; the message names the argument.
        TypeError: an argument that is no array or Variable, different dtypes, or a mask that is not boolean.
    """
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f'rnn{in_layer(modes.scope)}: nonlinearity must be "tanh" or "relu", not {nonlinearity!r}')
    weights = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih, "bias_hh": bias_hh}
    mask = check_recurrence("rnn", x, {"h_0": h}, weights, 1, mask, recurrent_mask)
    return fused.RNN(mask, reverse, recurrent_mask, nonlinearity)(x, h, *weights.values())


def lstm(
    x: Any,
    state: tuple[Any, Any],
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    mask: Array | None = None,
    *,
    forget_gate: bool = True,
    peepholes: Any = None,
    reverse: bool = False,
    recurrent_mask: Array | None = None,
) -> tuple[Any, tuple[Any, Any]]:
    """LSTM over a sequence (Hochreiter and Schmidhuber, 1997, with the forget gate of Gers et al., 2000).

    With i, f, g, o = the four parts of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh::

        c_t = σ(f) c_{t-1} + σ(i) tanh(g)
        h_t = σ(o) tanh(c_t)

    Without a forget gate c_t = c_{t-1} + σ(i) tanh(g). Peepholes (Gers and Schmidhuber, 2000) let the gates see c:
    p_i c_{t-1} is added to i, p_f c_{t-1} to f, and p_o c_t to o.

    Args:
        x: (N, T, D), of a floating dtype that all arguments share.
        state: h_0 and c_0, each (N, H).
        weight_ih: (4H, D), the gates in the order i, f, g, o, as in PyTorch; without a forget gate (3H, D), i, g, o.
        weight_hh: (4H, H), or (3H, H).
        bias_ih: (4H,) or (3H,); or None, as `bias_hh` is.
        bias_hh: (4H,) or (3H,), or None.
        mask: boolean (N, T). Where it is False the step is left out: state and output stay those of the step before.
        forget_gate: whether there is one.
        peepholes: p_i, p_f and p_o behind one another, (3H,); without a forget gate p_i and p_o, (2H,); None: none.
        reverse: run from the last step to the first.
        recurrent_mask: (N, H), what h_{t-1} is multiplied by before the product with W_hh; see `rnn`.

    Returns:
        The outputs h_1 … h_T (N, T, H), whose memory backward reads, and the last state (h, c), each (N, H).

    Raises:
        ValueError: shapes that do not fit, or no steps; the message names the argument.
        TypeError: an argument that is no array or Variable, different dtypes, or a mask that is not boolean.
    """
    check_pair("lstm", state)
    h, c = state
    weights = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih, "bias_hh": bias_hh}
    weights["peepholes"] = peepholes
    gates = 4 if forget_gate else 3
    mask = check_recurrence("lstm", x, {"h_0": h, "c_0": c}, weights, gates, mask, recurrent_mask)
    hs, h, c = fused.LSTM(mask, reverse, recurrent_mask, forget_gate)(x, h, c, *weights.values())
    return hs, (h, c)


def gru(
    x: Any,
    h: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    mask: Array | None = None,
    *,
    reset_after: bool = True,
    reverse: bool = False,
    recurrent_mask: Array | None = None,
) -> tuple[Any, Any]:
    """Gated recurrent unit over a sequence (Cho et al., 2014).

    With r, z, n = the three parts of W_ih x_t + b_ih, and r', z', n' those of W_hh h_{t-1} + b_hh::

        r, z = σ(r + r'), σ(z + z')
        n = tanh(n + r n')                        reset after the product, as in PyTorch
        n = tanh(n + W_hn (r h_{t-1}) + b_hn)     before it, as Cho et al. have it
        h_t = (1 - z) n + z h_{t-1}

    Args:
        x: (N, T, D), of a floating dtype that all arguments share.
        h: the first state h_0, (N, H).
        weight_ih: (3H, D), the gates in the order r, z, n, as in PyTorch.
        weight_hh: (3H, H).
        bias_ih: (3H,), or None as `bias_hh` is.
        bias_hh: (3H,), or None.
        mask: boolean (N, T). Where it is False the step is left out: state and output stay those of the step before.
        reset_after: which of the two forms.
        reverse: run from the last step to the first.
        recurrent_mask: (N, H), what h_{t-1} is multiplied by before the products with W_hh; see `rnn`.

    Returns:
        The outputs h_1 … h_T (N, T, H), whose memory backward reads, and the last state (N, H).

    Raises:
        ValueError: shapes that do not fit, or no steps; the message names the argument.
        TypeError: an argument that is no array or Variable, different dtypes, or a mask that is not boolean.
    """
    weights = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih, "bias_hh": bias_hh}
    mask = check_recurrence("gru", x, {"h_0": h}, weights, 3, mask, recurrent_mask)
    return fused.GRU(mask, reverse, recurrent_mask, reset_after)(x, h, *weights.values())


def attention(
    query: Any, key: Any, value: Any, mask: Array | None = None, scale: float | None = None
) -> tuple[Any, Any]:
    """Dot-product attention, softmax(scale · Q Kᵀ) V (Vaswani et al., 2017).

    With scale 1 and the keys as values it is that of *Deep Learning from Scratch 2*, ch. 8, fig. 8-16.

    Args:
        query: (…, T, D), of a floating dtype that all three share.
        key: (…, S, D).
        value: (…, S, E).
        mask: boolean, broadcast to (…, T, S): True where a query may look. A query that may look nowhere gets zeros.
            What says where keys (N, S) are no padding is written `mask[:, None, :]`; without it, it would be (T, S).
        scale: of the scores; 1 / √D by default.

    Returns:
        The context (…, T, E), and the weights (…, T, S), whose rows sum to 1; both of that dtype.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: an argument that is no array or Variable, different dtypes, or a mask that is not boolean.
    """
    check_arrays("attention", query=query, key=key, value=value)
    if query.ndim < 2 or key.ndim != query.ndim or value.ndim != query.ndim:
        raise ValueError(
            f"attention{in_layer(modes.scope)}: query {query.shape}, key {key.shape} and value {value.shape} must have "
            "the same number of axes, two or more"
        )
    if key.shape[-1] != query.shape[-1] or key.shape[:-2] != query.shape[:-2]:
        raise ValueError(f"attention{in_layer(modes.scope)}: key {key.shape} does not fit query {query.shape}")
    if value.shape[:-1] != key.shape[:-1]:
        raise ValueError(f"attention{in_layer(modes.scope)}: value {value.shape} does not fit key {key.shape}")
    check_dtypes("attention", query=query, key=key, value=value)
    if mask is not None:
        mask = check_mask("attention", mask, (*query.shape[:-1], key.shape[-2]), query)
    return fused.Attention(1 / math.sqrt(query.shape[-1]) if scale is None else float(scale), mask)(query, key, value)


def cross_entropy(logits: Any, targets: Any, ignore_index: int = -100) -> Any:
    """Mean of -log softmax(logits)[target] over the targets that are not `ignore_index`.

    Softmax with Loss of *Deep Learning from Scratch 2*, ch. 3, fig. 3-14; over the tokens of a text, e to the power of
    it is the perplexity (ch. 5).

    Args:
        logits: scores (…, V), before any softmax, of a floating dtype.
        targets: ids (…,), each in [0, V) or `ignore_index`.
        ignore_index: a target that does not count: no loss, no gradient, not in the mean.

    Returns:
        A scalar in nats, of the dtype of the logits; 0 where no target counts.

    Raises:
        ValueError: targets of another shape than the logits' without their last axis, or logits without axes.
        IndexError: a target outside [0, V).
        TypeError: targets that are no integers, or logits that are no floating array or Variable.
    """
    if not hasattr(logits, "dtype") or logits.dtype.kind != "f":
        check_arrays("cross_entropy", logits=logits)
        raise TypeError(f"cross_entropy{in_layer(modes.scope)}: logits must be of a floating dtype, not {logits.dtype}")
    if not logits.ndim:
        raise ValueError(f"cross_entropy{in_layer(modes.scope)}: logits have no axes; (…, V) is needed")
    targets = check_targets("cross_entropy", targets, "logits", logits, logits.shape[-1], ignore_index, "the logits")
    return fused.CrossEntropy(targets.reshape(-1), ignore_index)(logits)


def linear_cross_entropy(
    x: Any, linear_weight: Any, targets: Any, *, linear_bias: Any = None, ignore_index: int = -100
) -> Any:
    """`cross_entropy(linear(x, weight, bias), targets)` that never holds all logits: for large vocabularies.

    The logits are made a block of rows at a time, and their gradient at once. Of 700 rows and 10,000 words, it takes
    three quarters of the time, and half of the memory. In evaluation, `linear` alone gives the logits of the rows that
    are wanted.

    Args:
        x: (…, D), of a floating dtype that all arguments share.
        linear_weight: (V, D), as that of a linear layer; the table of an embedding where the two are tied.
        targets: ids (…,), each in [0, V) or `ignore_index`.
        linear_bias: (V,), or None.
        ignore_index: a target that does not count: no loss, no gradient, not in the mean; its row costs nothing.

    Returns:
        The mean loss in nats, a scalar; 0 where no target counts.

    Raises:
        ValueError: shapes that do not fit.
        IndexError: a target outside [0, V).
        TypeError: an argument that is no array or Variable, different dtypes, or targets that are no integers.
    """
    arguments = {"x": x, "linear_weight": linear_weight}
    if linear_bias is not None:
        arguments["linear_bias"] = linear_bias
    check_arrays("linear_cross_entropy", **arguments)
    check_ndim("linear_cross_entropy", "linear_weight", linear_weight, "(V, D)")
    check_features("linear_cross_entropy", x, "linear_weight", linear_weight)
    if linear_bias is not None:
        check_shape("linear_cross_entropy", "linear_bias", linear_bias, linear_weight.shape[:1])
    check_dtypes("linear_cross_entropy", **arguments)
    classes = len(linear_weight)
    targets = check_targets("linear_cross_entropy", targets, "x", x, classes, ignore_index, "linear_weight")
    return fused.LinearCrossEntropy(targets.reshape(-1), ignore_index)(x, linear_weight, linear_bias)


def dropout(x: Any, p: float = 0.5, training: bool = True, shared_axis: int | None = None) -> Any:
    """In training, zero each element with probability p and scale the others by 1 / (1 - p); else x itself.

    The mask is drawn from the library's stream (`tinygrad_nlp.manual_seed`). (Srivastava et al., 2014.)

    Args:
        x: of any shape and a floating dtype.
        p: in [0, 1).
        training: whether to drop anything.
        shared_axis: an axis along which all elements share one draw: 1 for the same features at all steps of a sequence
            (N, T, D), which is variational dropout (Gal and Ghahramani, 2016).

    Returns:
        Of the shape and dtype of x.

    Raises:
        ValueError: p outside [0, 1), or x has no such axis.
        TypeError: x is neither an array nor a Variable, or not of a floating dtype.
    """
    check_arrays("dropout", x=x)
    if x.dtype.kind not in "fc":
        raise TypeError(f"dropout{in_layer(modes.scope)}: x must be of a floating dtype, not {x.dtype}")
    if not 0 <= p < 1:
        raise ValueError(f"dropout{in_layer(modes.scope)}: p must lie in [0, 1), not {p}")
    if shared_axis is not None and not -x.ndim <= shared_axis < x.ndim:
        raise ValueError(f"dropout{in_layer(modes.scope)}: x {x.shape} has no axis {shared_axis} to share")
    if not training or p == 0:
        return x
    shape = list(x.shape)
    if shared_axis is not None:
        shape[shared_axis] = 1
    return mul(x, dropout_mask(tuple(shape), p, x))


def layer_norm(
    x: Any, normalized_shape: tuple[int, ...], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """(x - mean) / √(variance + ε) · weight + bias, each over the last axes (Ba, Kiros and Hinton, 2016).

    Args:
        x: (…, *normalized_shape), of a floating dtype that all arguments share.
        normalized_shape: the sizes of the axes over which mean and variance (divided by N, not N - 1) are taken.
        weight: `normalized_shape`; None is 1.
        bias: `normalized_shape`; None is 0.
        eps: ε, not negative.

    Returns:
        Of the shape and dtype of x.

    Raises:
        ValueError: shapes that do not fit, no axes, or a negative ε.
        TypeError: an argument that is no array or Variable, or different dtypes.
    """
    given = {"x": x, "weight": weight, "bias": bias}
    check_arrays("layer_norm", **{name: a for name, a in given.items() if a is not None})
    shape = tuple(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(
            f"layer_norm{in_layer(modes.scope)}: x has the shape {x.shape}; it must end in {shape}, of one axis or more"
        )
    for name in ("weight", "bias"):
        if given[name] is not None:
            check_shape("layer_norm", name, given[name], shape)
    check_dtypes("layer_norm", **{name: a for name, a in given.items() if a is not None})
    if not eps >= 0:
        raise ValueError(f"layer_norm{in_layer(modes.scope)}: eps must not be negative, but is {eps}")
    return fused.LayerNorm(len(shape), float(eps))(x, weight, bias)


def dropout_mask(shape: tuple[int, ...], p: float, like: Any) -> Array:
    """What dropout multiplies with: 0 with probability p, else 1 / (1 - p); drawn from the library's stream.

    Args:
        shape: of the mask.
        p: in [0, 1).
        like: an array or a Variable; the mask has its dtype and lies where it lies.

    Returns:
        An array of `shape`.
    """
    keep = generator().random(shape, dtype=np.float32) >= p
    xp = get_array_module(like.data if isinstance(like, Variable) else like)
    return xp.asarray(keep.astype(like.dtype) * (1 / (1 - p)), dtype=like.dtype)


__all__ = [
    "attention", "cross_entropy", "dropout", "embedding", "gru", "layer_norm", "linear", "linear_cross_entropy",
    "log_softmax", "logsumexp", "lstm", "relu", "rnn", "sigmoid", "softmax", "tanh",
]  # fmt: skip
