"""Dot-product attention: the plain formula, and a kernel that equals it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...autograd import Fused
from ...autograd.ops import matmul, softmax, swapaxes, where
from ...backend import Array


class Attention(Fused):
    """softmax(scale · Q Kᵀ) V. `nn.functional.attention` has the arguments and the source."""

    name = "attention"

    def __init__(self, scale: float, mask: Array | None = None) -> None:
        self.scale, self.mask = scale, mask

    def definition(self, query: Any, key: Any, value: Any) -> Any:
        """Scores, their softmax over the keys, and the mean of the values by those weights."""
        scores = matmul(query, swapaxes(key, -1, -2)) * self.scale
        if self.mask is None:
            weights = softmax(scores)
        else:
            # The lowest finite number and not -inf, so that a row without any key gives no NaN; it gets weights of 0.
            weights = softmax(where(self.mask, scores, float(np.finfo(scores.dtype).min))) * self.mask
        return matmul(weights, value), weights

    def forward(self, query: Array, key: Array, value: Array) -> tuple[Array, Array]:
        weights = query @ key.swapaxes(-1, -2)
        if self.scale != 1:
            weights *= self.scale
        if self.mask is not None:
            np.copyto(weights, np.finfo(weights.dtype).min, where=~self.mask)
        weights -= weights.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=-1, keepdims=True)
        if self.mask is not None:
            weights *= self.mask
        if self.edges is not None:
            self.saved = (weights,)
        return weights @ value, weights

    def backward(self, dcontext: Array, dweights: Array) -> tuple[Array | None, ...]:
        query, key, value = self.inputs
        (weights,) = self.saved
        to_query, to_key, to_value = self.edges
        dvalue = None if to_value is None else weights.swapaxes(-1, -2) @ dcontext
        ds = dcontext @ value.swapaxes(-1, -2)
        ds += dweights
        # through the softmax: w (dw - Σ dw w)
        ds *= weights
        ds -= weights * ds.sum(axis=-1, keepdims=True)
        if self.scale != 1:
            ds *= self.scale
        dquery = None if to_query is None else ds @ key
        dkey = None if to_key is None else ds.swapaxes(-1, -2) @ query
        return dquery, dkey, dvalue
