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


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x Wᵀ + b as `tinygrad_nlp.linear` computes it, with the argument named where shapes do not fit.

    Args:
        x: (…, in), giving (…, out).
        weight: (out, in).
        bias: (out,), or None.

    All of one floating dtype.

    Returns:
        (…, out), of that dtype.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: an argument that is neither an array nor a Variable.
    """
    try:
        if bias is not None and bias.shape != weight.shape[:1]:  # NumPy would broadcast some
            raise ValueError
        return Linear()(x, weight, bias)
    except (AttributeError, IndexError, TypeError, ValueError):  # looked into only here: small layers are many
        _check_arrays("linear", x=x, weight=weight, bias=weight if bias is None else bias)
        _check_ndim("linear", "weight", weight, "(out, in)")
        _check_features("linear", x, "weight", weight)
        if bias is not None:
            _check_shape("linear", "bias", bias, weight.shape[:1])
        raise


def lstm(
    x: Any,
    state: tuple[Any, Any],
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any,
    bias_hh: Any,
    mask: Array | None = None,
) -> tuple[Any, tuple[Any, Any]]:
    """LSTM over a sequence (Hochreiter and Schmidhuber, 1997, with the forget gate of Gers et al., 2000).

    With i, f, g, o = the four parts of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh::

        c_t = σ(f) c_{t-1} + σ(i) tanh(g)
        h_t = σ(o) tanh(c_t)

    Args:
        x: (N, T, D), of a floating dtype that all arguments share.
        state: h_0 and c_0, each (N, H).
        weight_ih: (4H, D), the gates in the order i, f, g, o, as in PyTorch.
        weight_hh: (4H, H).
        bias_ih: (4H,).
        bias_hh: (4H,).
        mask: boolean (N, T). Where it is False the step is left out: state and output stay those of the step before.

    Returns:
        The outputs h_1 … h_T (N, T, H), and the state (h_T, c_T).

    Raises:
        ValueError: shapes that do not fit; the message names the argument.
        TypeError: an argument that is no array or Variable, different dtypes, or a mask that is not boolean.
    """
    h, c = state
    _check_arrays("lstm", x=x, h_0=h, c_0=c, weight_ih=weight_ih, weight_hh=weight_hh, bias_ih=bias_ih, bias_hh=bias_hh)
    _check_ndim("lstm", "x", x, "(N, T, D)")
    _check_ndim("lstm", "weight_ih", weight_ih, "(4H, D)")
    _check_ndim("lstm", "weight_hh", weight_hh, "(4H, H)")
    batch, steps, features = x.shape
    hidden = weight_hh.shape[1]
    _check_features("lstm", x, "weight_ih", weight_ih)
    _check_shape("lstm", "weight_ih", weight_ih, (4 * hidden, features))
    _check_shape("lstm", "weight_hh", weight_hh, (4 * hidden, hidden))
    _check_shape("lstm", "bias_ih", bias_ih, (4 * hidden,))
    _check_shape("lstm", "bias_hh", bias_hh, (4 * hidden,))
    _check_shape("lstm", "h_0", h, (batch, hidden))
    _check_shape("lstm", "c_0", c, (batch, hidden))
    _check_dtypes("lstm", x=x, h_0=h, c_0=c, weight_ih=weight_ih, weight_hh=weight_hh, bias_ih=bias_ih, bias_hh=bias_hh)
    if mask is not None:
        mask = _check_mask("lstm", mask, (batch, steps))
    if not steps:
        raise ValueError(f"lstm{in_layer(modes.scope)}: x has no steps (T = 0)")
    hs, h, c = fused.LSTM(mask)(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh)
    return hs, (h, c)


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
        scale: of the scores; 1 / √D by default.

    Returns:
        The context (…, T, E), and the weights (…, T, S), whose rows sum to 1.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: an argument that is no array or Variable, different dtypes, or a mask that is not boolean.
    """
    _check_arrays("attention", query=query, key=key, value=value)
    if query.ndim < 2 or key.ndim != query.ndim or value.ndim != query.ndim:
        raise ValueError(
            f"attention{in_layer(modes.scope)}: query {query.shape}, key {key.shape} and value {value.shape} must have "
            "the same number of axes, two or more"
        )
    if key.shape[-1] != query.shape[-1] or key.shape[:-2] != query.shape[:-2]:
        raise ValueError(f"attention{in_layer(modes.scope)}: key {key.shape} does not fit query {query.shape}")
    if value.shape[:-1] != key.shape[:-1]:
        raise ValueError(f"attention{in_layer(modes.scope)}: value {value.shape} does not fit key {key.shape}")
    _check_dtypes("attention", query=query, key=key, value=value)
    if mask is not None:
        mask = _check_mask("attention", mask, (*query.shape[:-1], key.shape[-2]))
    return fused.Attention(1 / math.sqrt(query.shape[-1]) if scale is None else float(scale), mask)(query, key, value)


def cross_entropy(logits: Any, targets: Any, ignore_index: int = -100) -> Any:
    """Mean of -log softmax(logits)[target] over the targets that are not `ignore_index`.

    Args:
        logits: scores (…, V), before any softmax, of a floating dtype.
        targets: ids (…,), each in [0, V) or `ignore_index`.
        ignore_index: a target that does not count: no loss, no gradient, not in the mean.

    Returns:
        A scalar; 0 where no target counts.

    Raises:
        ValueError: targets of another shape than the logits' without their last axis.
        IndexError: a target outside [0, V).
        TypeError: targets that are no integers, or logits that are no floating array or Variable.
    """
    targets = _integers("cross_entropy", "targets must be integer ids", targets)
    if not hasattr(logits, "dtype") or logits.dtype.kind != "f":
        _check_arrays("cross_entropy", logits=logits)
        raise TypeError(f"cross_entropy{in_layer(modes.scope)}: logits must be of a floating dtype, not {logits.dtype}")
    if targets.shape != logits.shape[:-1]:
        raise ValueError(
            f"cross_entropy{in_layer(modes.scope)}: targets have the shape {targets.shape}; "
            f"logits of {logits.shape} need {logits.shape[:-1]}"
        )
    wrong = targets[((targets < 0) | (targets >= logits.shape[-1])) & (targets != ignore_index)]
    if wrong.size:
        raise IndexError(
            f"cross_entropy{in_layer(modes.scope)}: target {wrong.ravel()[0]} is outside the {logits.shape[-1]} "
            f"classes of the logits (and is not ignore_index={ignore_index})"
        )
    return fused.CrossEntropy(targets.reshape(-1), ignore_index)(logits)


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Any:
    """In training, zero each element with probability p and scale the others by 1 / (1 - p); else x itself.

    The mask is drawn from the library's stream (`tinygrad_nlp.manual_seed`). (Srivastava et al., 2014.)

    Args:
        x: of any shape and a floating dtype.
        p: in [0, 1).
        training: whether to drop anything.

    Returns:
        Of the shape and dtype of x.

    Raises:
        ValueError: p outside [0, 1).
        TypeError: x is neither an array nor a Variable.
    """
    _check_arrays("dropout", x=x)
    if not 0 <= p < 1:
        raise ValueError(f"dropout{in_layer(modes.scope)}: p must lie in [0, 1), not {p}")
    if not training or p == 0:
        return x
    keep = generator().random(x.shape, dtype=np.float32) >= p
    xp = get_array_module(x.data if isinstance(x, Variable) else x)
    return mul(x, xp.asarray(keep.astype(x.dtype) * (1 / (1 - p)), dtype=x.dtype))


# --- checks, and the messages where they fail -------------------------------------------------------------------------


def _integers(function: str, claim: str, ids: Any) -> Array:
    """`ids` as an array; an array of numbers that are no integers is refused with `claim`."""
    ids = ids.data if isinstance(ids, Variable) else ids
    if not hasattr(ids, "dtype"):
        ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{function}{in_layer(modes.scope)}: {claim}, not {ids.dtype}")
    return ids


def _check_arrays(function: str, **arguments: Any) -> None:
    for name, x in arguments.items():
        if not hasattr(x, "dtype"):
            raise TypeError(
                f"{function}{in_layer(modes.scope)}: {name} must be an array or a Variable, not {type(x).__name__}"
            )


def _check_dtypes(function: str, **arguments: Any) -> None:
    """Refuse different dtypes: a kernel would round the wider to the narrower, or compute in the wider unasked."""
    dtypes = {x.dtype for x in arguments.values()}
    if len(dtypes) > 1 or dtypes.pop().kind != "f":
        given = ", ".join(f"{name} {x.dtype}" for name, x in arguments.items())
        raise TypeError(
            f"{function}{in_layer(modes.scope)}: the arguments must share one floating dtype, but are {given}"
        )


def _check_features(function: str, x: Any, argument: str, weight: Any) -> None:
    if not x.shape or x.shape[-1] != weight.shape[1]:
        came = x.shape[-1] if x.shape else "no"
        raise ValueError(
            f"{function}{in_layer(modes.scope)}: x has {came} features {x.shape}, {argument} {weight.shape} needs "
            f"{weight.shape[1]}"
        )


def _check_ndim(function: str, argument: str, x: Any, form: str) -> None:
    if x.ndim != form.count(",") + 1:
        raise ValueError(f"{function}{in_layer(modes.scope)}: {argument} has the shape {x.shape}; {form} is needed")


def _check_shape(function: str, argument: str, x: Any, shape: tuple[int, ...]) -> None:
    if x.shape != shape:
        raise ValueError(f"{function}{in_layer(modes.scope)}: {argument} has the shape {x.shape}; {shape} is needed")


def _check_mask(function: str, mask: Any, shape: tuple[int, ...]) -> Array:
    mask = mask.data if isinstance(mask, Variable) else mask
    xp = get_array_module(mask)
    mask = xp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"{function}{in_layer(modes.scope)}: mask must be boolean, not {mask.dtype}")
    try:
        return xp.broadcast_to(mask, shape)
    except ValueError:
        raise ValueError(
            f"{function}{in_layer(modes.scope)}: mask has the shape {mask.shape}; {shape} is needed"
        ) from None


__all__ = [
    "attention", "cross_entropy", "dropout", "embedding", "linear", "log_softmax", "logsumexp", "lstm", "relu",
    "sigmoid", "softmax", "tanh",
]  # fmt: skip
