"""Gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..autograd import RowSparse, Variable


def clip_grad_norm_(parameters: Iterable[Variable], max_norm: float) -> float:
    """Scale the gradients of all parameters together so that their norm is at most `max_norm`.

    If ‖g‖ > θ then g ← g θ / ‖g‖, where g is the gradients of all distinct parameters end to end (Pascanu et al., 2013;
    document 000, chapter 6). A parameter that is listed twice counts once.

    Args:
        parameters: with or without gradients, which are changed in place; one that came from
            `backward(create_graph=True)` becomes a plain array.
        max_norm: θ, above 0.

    Returns:
        ‖g‖ before clipping.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm_: max_norm must be above 0, not {max_norm}")
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
    flat = [g.reshape(-1) for g in gradients]
    norm = math.sqrt(math.fsum(float(np.einsum("i,i", g, g)) for g in flat))  # squares and sums in one pass
    if norm > max_norm:
        for g in gradients:
            g *= max_norm / norm
    return norm
