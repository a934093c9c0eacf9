"""Layer normalisation: the plain formula, and a kernel that equals it."""

from __future__ import annotations

import math
from typing import Any

from ...autograd import Fused
from ...autograd.ops import mean, sqrt
from ...backend import Array, get_array_module, has_kernels, launch


class LayerNorm(Fused):
    """(x - mean) / √(variance + ε) · weight + bias. `nn.functional.layer_norm` has the inputs and the source.

    The kernel keeps the normalised x, with which all its gradients are short.

    Args:
        axes: over how many of the last axes.
        eps: ε.
    """

    name = "layer_norm"

    def __init__(self, axes: int, eps: float) -> None:
        self.axes, self.eps = axes, eps

    def definition(self, x: Any, weight: Any = None, bias: Any = None) -> Any:
        """Take the mean away, divide by the standard deviation, scale and shift."""
        axes = tuple(range(-self.axes, 0))
        centred = x - mean(x, axes, keepdims=True)
        y = centred / sqrt(mean(centred * centred, axes, keepdims=True) + self.eps)
        y = y if weight is None else y * weight
        return y if bias is None else y + bias

    def forward(self, x: Array, weight: Array | None = None, bias: Array | None = None) -> Array:
        xp = get_array_module(x)
        size = math.prod(x.shape[-self.axes :])
        rows = x.reshape(x.size // max(size, 1), size)
        if rows.size:
            rows = rows.astype(xp.promote_types(x.dtype, xp.float32), copy=False)  # squares of float16 overflow
            rows = rows - rows.mean(axis=1, keepdims=True)
            scale = 1 / xp.sqrt((rows * rows).mean(axis=1, keepdims=True) + self.eps)
            if self.edges is not None:
                self.saved = rows, scale
            if weight is not None and bias is not None and has_kernels(rows, weight, bias):
                y = xp.empty_like(rows)
                launch("layer_norm.forward", rows.size, rows, size, scale, weight, bias, rows, y)
                return y.reshape(x.shape).astype(x.dtype, copy=False)
            rows *= scale
        y = rows if weight is None else rows * weight.reshape(-1)
        y = y if bias is None else y + bias.reshape(-1)
        return y.reshape(x.shape).astype(x.dtype, copy=False)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        if self.saved is None:  # there were no elements
            return tuple(x if x is None else get_array_module(dy).zeros_like(x) for x in self.inputs)
        x, weight, bias = (*self.inputs, None, None)[:3]
        to_x, to_weight, to_bias = (*self.edges, None, None)[:3]
        rows, scale = self.saved
        xp = get_array_module(rows)
        dy = dy.reshape(rows.shape)
        dx = dweight = dbias = None
        if to_x is not None:
            # What moves all of a row alike, or stretches it, is taken away again: it has no gradient.
            drows = dy if weight is None else dy * weight.reshape(-1)
            stretch = (drows * rows).mean(axis=1, keepdims=True)
            mean_drows = drows.mean(axis=1, keepdims=True)
            if has_kernels(rows, drows):
                dx, given = xp.empty_like(rows), (scale, mean_drows, stretch, rows, drows)
                launch("layer_norm.backward", rows.size, rows, rows.shape[1], *given, dx)
            else:
                dx = scale * (drows - mean_drows - rows * stretch)
            dx = dx.reshape(x.shape)
        if to_weight is not None:
            dweight = (dy * rows).sum(axis=0).reshape(weight.shape)
        if to_bias is not None:
            dbias = dy.sum(axis=0).reshape(bias.shape)
        return (dx, dweight, dbias)[: len(self.inputs)]
