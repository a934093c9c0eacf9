"""Operations that make one number of many, along some axes: sums, means, extremes, and the softmax family."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backend import Array
from ..engine import Gradient
from ..function import Function
from .elementwise import exp
from .shaping import broadcast_to

Axis = int | tuple[int, ...] | None


class _Reduction(Function):
    def __init__(self, axis: Axis = None, keepdims: bool = False) -> None:
        self.axis, self.keepdims = axis, keepdims

    def kept(self, reduced: Any, ndim: int) -> Any:
        """An array of the output's shape with the reduced axes back, of size 1."""
        if self.keepdims:
            return reduced
        axes = range(ndim) if self.axis is None else self.axis if isinstance(self.axis, tuple) else (self.axis,)
        lost = {axis % ndim for axis in axes}
        sizes = iter(reduced.shape)
        return reduced.reshape(tuple(1 if axis in lost else next(sizes) for axis in range(ndim)))


class Sum(_Reduction):
    def forward(self, x: Array) -> Array:
        self.shape_in = x.shape
        return x.sum(axis=self.axis, keepdims=self.keepdims)

    def backward(self, gy: Gradient) -> Gradient:
        return broadcast_to(self.kept(gy, len(self.shape_in)), self.shape_in)


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum over `axis` (all by default)."""
    return Sum(axis, keepdims)(x)


class Mean(_Reduction):
    def forward(self, x: Array) -> Array:
        self.shape_in = x.shape
        return x.mean(axis=self.axis, keepdims=self.keepdims)

    def backward(self, gy: Gradient) -> Gradient:
        kept = self.kept(gy, len(self.shape_in))
        count = np.prod(self.shape_in, dtype=int) / (np.prod(kept.shape, dtype=int) or 1)
        return broadcast_to(kept / float(count), self.shape_in)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Mean over `axis` (all by default)."""
    return Mean(axis, keepdims)(x)


class Max(_Reduction):
    saves_inputs = saves_output = True

    def forward(self, x: Array) -> Array:
        return x.max(axis=self.axis, keepdims=self.keepdims)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        best = (x == self.kept(self.output, x.ndim)).astype(gy.dtype)
        return self.kept(gy, x.ndim) * (best / best.sum(axis=self.axis, keepdims=True))


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Largest element along `axis` (of all by default); equal ones share the gradient, as in PyTorch's amax."""
    return Max(axis, keepdims)(x)


class Min(Max):
    def forward(self, x: Array) -> Array:
        return x.min(axis=self.axis, keepdims=self.keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Smallest element along `axis` (of all by default); equal ones share the gradient, as in PyTorch's amin."""
    return Min(axis, keepdims)(x)


class Logsumexp(_Reduction):
    saves_inputs = saves_output = True

    def forward(self, x: Array) -> Array:
        top = x.max(axis=self.axis, keepdims=True)
        top = np.where(np.isfinite(top), top, 0)  # a row of -inf has the sum 0, whose logarithm is -inf
        with np.errstate(divide="ignore"):
            y = np.log(np.exp(x - top).sum(axis=self.axis, keepdims=True)) + top
        return y if self.keepdims else np.squeeze(y, self.axis)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        return self.kept(gy, x.ndim) * exp(x - self.kept(self.output, x.ndim))


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Log Σ e^x along `axis` (all by default), without overflow."""
    return Logsumexp(axis, keepdims)(x)


class Softmax(Function):
    saves_output = True

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Array) -> Array:
        y = x - x.max(axis=self.axis, keepdims=True)
        np.exp(y, out=y)
        y /= y.sum(axis=self.axis, keepdims=True)
        return y

    def backward(self, gy: Gradient) -> Gradient:
        y = self.output
        return y * (gy - (gy * y).sum(axis=self.axis, keepdims=True))


def softmax(x: Any, axis: int = -1) -> Any:
    """e^x / Σ e^x along `axis`: probabilities from scores."""
    return Softmax(axis)(x)


class LogSoftmax(Function):
    saves_output = True

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Array) -> Array:
        y = x - x.max(axis=self.axis, keepdims=True)
        y -= np.log(np.exp(y).sum(axis=self.axis, keepdims=True))
        return y

    def backward(self, gy: Gradient) -> Gradient:
        return gy - exp(self.output) * gy.sum(axis=self.axis, keepdims=True)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """Log softmax(x), from the scores: exact also where the probability is too small for a float."""
    return LogSoftmax(axis)(x)
