"""Matrix products."""

from __future__ import annotations

from typing import Any

from ... import threads
from ...backend import Array
from ..engine import Gradient
from ..function import Function
from .shaping import swapaxes


class Matmul(Function):
    saves_inputs = True

    def forward(self, a: Array, b: Array) -> Array:
        if a.ndim > 2 and b.ndim == 2 and a.size:  # one large product instead of many small ones
            return threads.matmul(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
        return threads.matmul(a, b)

    def backward(self, gy: Gradient) -> Gradient:
        a, b = self.inputs
        to_a, to_b = self.edges
        # A vector is a matrix of one row (on the left) or of one column (on the right) whose extra axis is dropped.
        if b.ndim == 1:
            gy, b = gy.reshape(*gy.shape, 1), b.reshape(-1, 1)
        if a.ndim == 1:
            gy, a = gy.reshape(*gy.shape[:-1], 1, gy.shape[-1]), a.reshape(1, -1)
        ga = gb = None
        if to_a is not None:
            ga = threads.matmul(gy, b.swapaxes(-1, -2))
            ga = ga.reshape(*ga.shape[:-2], ga.shape[-1]) if len(to_a.shape) == 1 else ga
        if to_b is not None:
            if a.ndim > 2 and b.ndim == 2 and a.size and gy.size:
                gb = threads.matmul(a.reshape(-1, a.shape[-1]).swapaxes(0, 1), gy.reshape(-1, gy.shape[-1]))
            else:
                gb = threads.matmul(a.swapaxes(-1, -2), gy)
            gb = gb.reshape(gb.shape[:-1]) if len(to_b.shape) == 1 else gb
        return ga, gb


def matmul(a: Any, b: Any) -> Any:
    """a @ b for every rank, by NumPy's rules: (…, n, k) @ (…, k, m), and vectors on either side."""
    return Matmul()(a, b)


def rmatmul(b: Any, a: Any) -> Any:
    """a @ b, as b.__rmatmul__(a)."""
    return Matmul()(a, b)


class Linear(Function):
    saves_inputs = True

    def forward(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        y = threads.matmul(x.reshape(-1, x.shape[-1]), weight.T)
        if bias is not None:
            y += bias
        return y.reshape(*x.shape[:-1], len(weight))

    def definition(self, x: Any, weight: Any, bias: Any = None) -> Any:
        """The same in plain operations: what a drawing opens."""
        y = matmul(x, swapaxes(weight, 0, 1))
        return y if bias is None else y + bias

    def backward(self, gy: Gradient) -> Gradient:
        x, weight, *_ = self.inputs
        to_x, to_weight, *to_bias = self.edges
        rows = gy.reshape(-1, gy.shape[-1])
        gx = None if to_x is None else threads.matmul(rows, weight).reshape(x.shape)
        gw = None if to_weight is None else threads.matmul(rows.transpose(), x.reshape(-1, x.shape[-1]))
        gb = rows.sum(axis=0) if to_bias and to_bias[0] is not None else None
        return gx, gw, gb


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x Wᵀ + b, the affine map of a layer, as one operation.

    Args:
        x: (…, in).
        weight: (out, in), as in PyTorch.
        bias: (out,) or None.

    Returns:
        (…, out).
    """
    return Linear()(x, weight, bias)
