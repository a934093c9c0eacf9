"""What layers and functions refuse, and how they say it: function, layer, argument, what came, what is needed.

All raise ValueError for shapes and TypeError for kinds; the first argument is the name of the function that asks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Variable
from ..autograd.modes import in_layer, modes
from ..backend import Array, beside, get_array_module


def check_integers(function: str, claim: str, ids: Any) -> Array:
    """`ids` as an array; an array of numbers that are no integers is refused with `claim`."""
    ids = ids.data if isinstance(ids, Variable) else ids
    if not hasattr(ids, "dtype"):
        ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{function}{in_layer(modes.scope)}: {claim}, not {ids.dtype}")
    return ids


def check_arrays(function: str, **arguments: Any) -> None:
    """Each must be an array or a Variable."""
    for name, x in arguments.items():
        if not hasattr(x, "dtype"):
            raise TypeError(
                f"{function}{in_layer(modes.scope)}: {name} must be an array or a Variable, not {type(x).__name__}"
            )


def check_dtypes(function: str, **arguments: Any) -> None:
    """Refuse different dtypes: a kernel would round the wider to the narrower, or compute in the wider unasked."""
    dtypes = {x.dtype for x in arguments.values()}
    if len(dtypes) > 1 or dtypes.pop().kind != "f":
        given = ", ".join(f"{name} {x.dtype}" for name, x in arguments.items())
        raise TypeError(
            f"{function}{in_layer(modes.scope)}: the arguments must share one floating dtype, but are {given}"
        )


def check_features(function: str, x: Any, argument: str, weight: Any) -> None:
    """The last axis of x must have as many features as the columns of a weight (out, in)."""
    if not x.shape or x.shape[-1] != weight.shape[1]:
        came = x.shape[-1] if x.shape else "no"
        raise ValueError(
            f"{function}{in_layer(modes.scope)}: x has {came} features {x.shape}, {argument} {weight.shape} needs "
            f"{weight.shape[1]}"
        )


def check_ndim(function: str, argument: str, x: Any, form: str) -> None:
    """It must have as many axes as the form, such as "(N, T, D)"."""
    if x.ndim != form.count(",") + 1:
        raise ValueError(f"{function}{in_layer(modes.scope)}: {argument} has the shape {x.shape}; {form} is needed")


def check_shape(function: str, argument: str, x: Any, shape: tuple[int, ...]) -> None:
    """It must have just this shape."""
    if x.shape != shape:
        raise ValueError(f"{function}{in_layer(modes.scope)}: {argument} has the shape {x.shape}; {shape} is needed")


def check_pair(function: str, state: Any) -> None:
    """The state of an LSTM must be two arrays."""
    if len(state) != 2:
        raise ValueError(
            f"{function}{in_layer(modes.scope)}: the state must be h_0 and c_0, not {len(state)} "
            f"array{'s' * (len(state) > 1)}"
        )


def check_recurrence(
    function: str,
    x: Any,
    state: dict[str, Any],
    weights: dict[str, Any],
    gates: int,
    mask: Any,
    recurrent_mask: Array | None,
) -> Array | None:
    """Refuse what does not fit; returns the mask as an array (N, T)."""
    given = {name: weight for name, weight in weights.items() if weight is not None}
    arguments = {"x": x, **state, **given}
    check_arrays(function, **arguments)
    check_ndim(function, "x", x, "(N, T, D)")
    for name, size in (("weight_ih", "D"), ("weight_hh", "H")):
        check_ndim(function, name, weights[name], f"({'' if gates == 1 else gates}H, {size})")
    batch, steps, features = x.shape
    hidden = weights["weight_hh"].shape[1]
    check_features(function, x, "weight_ih", weights["weight_ih"])
    shapes = {
        "weight_ih": (gates * hidden, features),
        "weight_hh": (gates * hidden, hidden),
        "bias_ih": (gates * hidden,),
        "bias_hh": (gates * hidden,),
        "peepholes": ((gates - 1) * hidden,),
        **dict.fromkeys(state, (batch, hidden)),
    }
    for name in [*given, *state]:
        check_shape(function, name, arguments[name], shapes[name])
    check_dtypes(function, **arguments)
    if recurrent_mask is not None:
        check_arrays(function, recurrent_mask=recurrent_mask)
        check_shape(function, "recurrent_mask", recurrent_mask, (batch, hidden))
        check_dtypes(function, x=x, recurrent_mask=recurrent_mask)
    if mask is not None:
        mask = check_mask(function, mask, (batch, steps), x)
    if not steps:
        raise ValueError(f"{function}{in_layer(modes.scope)}: x has no steps (T = 0)")
    return mask


def check_mask(function: str, mask: Any, shape: tuple[int, ...], x: Any) -> Array:
    """A boolean mask that can be broadcast to `shape`; returns it as an array of that shape, where x lies."""
    mask = mask.data if isinstance(mask, Variable) else mask
    xp = get_array_module(mask)
    mask = xp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"{function}{in_layer(modes.scope)}: mask must be boolean, not {mask.dtype}")
    try:
        return beside(xp.broadcast_to(mask, shape), _array(x))
    except ValueError:
        raise ValueError(
            f"{function}{in_layer(modes.scope)}: mask has the shape {mask.shape}; {shape} is needed"
        ) from None


def check_targets(
    function: str, targets: Any, argument: str, x: Any, classes: int, ignore_index: int, of: str
) -> Array:
    """`targets` as an array, where x lies: one for each row of it, each in [0, classes) or `ignore_index`.

    `of` says whose classes they are.
    """
    targets = check_integers(function, "targets must be integer ids", targets)
    if targets.shape != x.shape[:-1]:
        raise ValueError(
            f"{function}{in_layer(modes.scope)}: targets have the shape {targets.shape}; "
            f"{argument} of {x.shape} need {x.shape[:-1]}"
        )
    if not classes:
        raise ValueError(f"{function}{in_layer(modes.scope)}: {of} of no classes; a softmax needs one at least")
    outside = (targets < 0) | (targets >= classes)
    # To count first costs 1 µs, to pick 3: of 77 that a step of the spiral takes.
    if np.count_nonzero(outside) and (wrong := targets[outside & (targets != ignore_index)]).size:
        raise IndexError(
            f"{function}{in_layer(modes.scope)}: target {wrong.ravel()[0]} is outside the {classes} classes of {of} "
            f"(and is not ignore_index={ignore_index})"
        )
    return beside(targets, _array(x))


def mask_of_lengths(function: str, lengths: Any, x: Any) -> Array:
    """The mask (N, T) of sequences in x (N, T, D) of which the lengths (N,) are known: from 0 to T."""
    lengths = check_integers(function, "lengths must be integers", lengths)
    batch, steps, *_ = x.shape
    check_shape(function, "lengths", lengths, (batch,))
    wrong = np.flatnonzero((lengths < 0) | (lengths > steps))
    if wrong.size:
        raise ValueError(
            f"{function}{in_layer(modes.scope)}: lengths[{wrong[0]}] is {lengths[wrong[0]]}; x {x.shape} has {steps} "
            "steps"
        )
    xp = get_array_module(_array(x))
    return xp.arange(steps) < beside(lengths, _array(x))[:, None]


def _array(x: Any) -> Array:
    return x.data if isinstance(x, Variable) else x
