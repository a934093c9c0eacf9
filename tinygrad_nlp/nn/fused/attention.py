"""Dot-product attention: the plain formula, and a kernel that equals it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...autograd import Fused, ops
from ...backend import Array, get_array_module
from ...products import matmul
from ...threads import count, side_by_side, slices


class Attention(Fused):
    """softmax(scale · Q Kᵀ) V. `nn.functional.attention` has the inputs and the source.

    Args:
        scale: of the scores.
        mask: boolean (…, T, S), True where a query may look; None lets each look everywhere.
    """

    name = "attention"

    def __init__(self, scale: float, mask: Array | None = None) -> None:
        self.scale, self.mask = scale, mask

    def definition(self, query: Any, key: Any, value: Any) -> Any:
        """Scores, their softmax over the keys, and the mean of the values by those weights."""
        scores = ops.matmul(query, ops.swapaxes(key, -1, -2))
        if self.scale != 1:
            scores = scores * self.scale
        if self.mask is None:
            weights = ops.softmax(scores)
        else:
            # The lowest finite number and not -inf, so that a row without any key gives no NaN; it gets weights of 0.
            weights = ops.softmax(ops.where(self.mask, scores, float(np.finfo(scores.dtype).min))) * self.mask
        return ops.matmul(weights, value), weights

    def forward(self, query: Array, key: Array, value: Array) -> tuple[Array, Array]:
        xp = get_array_module(query)
        weights = xp.empty((*query.shape[:-1], key.shape[-2]), query.dtype)
        context = xp.empty((*query.shape[:-1], value.shape[-1]), query.dtype)

        def run(rows: slice) -> None:
            w = weights[rows]
            matmul(query[rows], key[rows].swapaxes(-1, -2), out=w)
            if self.scale != 1:
                w *= self.scale
            if self.mask is not None:
                xp.copyto(w, np.finfo(w.dtype).min, where=~self.mask[rows])
            w -= w.max(axis=-1, keepdims=True)
            xp.exp(w, out=w)
            w /= w.sum(axis=-1, keepdims=True)
            if self.mask is not None:
                w *= self.mask[rows]
            matmul(w, value[rows], out=context[rows])

        if weights.shape[-1]:
            side_by_side(run, _parts(query, key))
        else:  # no keys: a query that may look nowhere
            context[...] = 0
        if self.edges is not None:
            self.saved = (weights,)
        return context, weights

    def backward(self, dcontext: Array, dweights: Array) -> tuple[Array | None, ...]:
        query, key, value = self.inputs
        (weights,) = self.saved
        xp = get_array_module(query)
        to_query, to_key, to_value = self.edges
        same = to_key is to_value  # keys that are values: the sum of their gradients is one product
        dquery = None if to_query is None else xp.empty_like(query)
        dkey = None if to_key is None else xp.empty_like(key)
        dvalue = None if to_value is None or same else xp.empty_like(value)

        def run(rows: slice) -> None:
            w, dy = weights[rows], dcontext[rows]
            ds = dy @ value[rows].swapaxes(-1, -2)
            ds += dweights[rows]
            # through the softmax: w (dw - Σ dw w)
            ds *= w
            ds -= w * ds.sum(axis=-1, keepdims=True)
            if self.scale != 1:
                ds *= self.scale
            if dquery is not None:
                matmul(ds, key[rows], out=dquery[rows])
            if dkey is not None and same:
                both = xp.concatenate((ds, w), axis=-2).swapaxes(-1, -2)
                matmul(both, xp.concatenate((query[rows], dy), axis=-2), out=dkey[rows])
            elif dkey is not None:
                matmul(ds.swapaxes(-1, -2), query[rows], out=dkey[rows])
            if dvalue is not None:
                matmul(w.swapaxes(-1, -2), dy, out=dvalue[rows])

        side_by_side(run, _parts(query, key))
        return dquery, dkey, dvalue


def _parts(query: Array, key: Array) -> list[slice]:
    """The batch, or halves of it and so on, where each is worth a thread."""
    if query.ndim < 3 or not isinstance(query, np.ndarray):
        return [slice(None)]
    worth = query.size * key.shape[-2] // 2**22
    return slices(len(query), max(1, min(count(), len(query), worth)))
