"""Gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..autograd import RowSparse, Variable
from ..backend import Array


def clip_grad_norm_(parameters: Variable | Iterable[Variable], max_norm: float) -> float:
    """Scale the gradients of all parameters together so that their norm is at most `max_norm`.

    If ‖g‖ > θ then g ← g θ / ‖g‖, where g is the gradients of all distinct parameters end to end (Pascanu et al., 2013,
    algorithm 1; *Deep Learning from Scratch 2*, ch. 6; *Dive into Deep Learning*, 9.5.3). A parameter that is listed
    twice counts once. Where ‖g‖ is infinite or NaN the gradients are left as they are, not turned into zeros and NaNs:
    the caller sees it in what is returned.

    Args:
        parameters: one or several, of any shapes and dtypes, with or without gradients, which are changed in place; one
            that came from `backward(create_graph=True)` becomes a plain array.
        max_norm: θ, above 0; with infinity, only the norm is measured.

    Returns:
        ‖g‖ before clipping, a Python float; 0 where there are no gradients.

    Raises:
        ValueError: max_norm is not above 0, or NaN.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm_: max_norm must be above 0, not {max_norm}")
    if isinstance(parameters, Variable):
        parameters = [parameters]
    distinct = {id(parameter): parameter for parameter in parameters if parameter.grad is not None}
    gradients = []
    for parameter in distinct.values():
        if isinstance(parameter.grad, RowSparse):
            parameter.grad = parameter.grad.coalesce()  # the norm of the sums, not the sum of the norms
            gradients.append(parameter.grad.values)
        else:
            if isinstance(parameter.grad, Variable):  # its memory may be that of others, and saved in its graph
                parameter.grad = parameter.grad.data.copy()
            gradients.append(parameter.grad)
    norm = math.sqrt(sum(_sum_of_squares(g.reshape(-1)) for g in gradients))
    if max_norm < norm < math.inf:
        for g in gradients:
            g *= max_norm / norm
    return norm


def _sum_of_squares(g: Array) -> float:
    """Of a vector, in float32 or wider, and in float64 where that overflows: squares do above 1.8e19."""
    if g.dtype.itemsize < 4:
        g = g.astype(np.float32)
    total = float(np.einsum("i,i", g, g))  # squares and sums in one pass
    if not math.isfinite(total):
        g = g.astype(np.float64)
        total = float(np.einsum("i,i", g, g))
    return total
