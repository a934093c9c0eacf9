"""Operations that make one number of many, along some axes: sums, products, spreads, extremes, norms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...backend import Array, get_array_module
from ..engine import Gradient
from ..function import Function
from .elementwise import exp, half_again, precise, where
from .shaping import Reshape, broadcast_to, concatenate, flip, unstack

Axis = int | tuple[int, ...] | None


class _Reduction(Function):
    def __init__(self, axis: Axis = None, keepdims: bool = False) -> None:
        self.axis, self.keepdims = axis, keepdims

    def axes(self, ndim: int) -> list[int]:
        """The axes that are reduced, counted from the front; none of a number, of which NumPy takes axis 0 for all."""
        if not ndim:
            return []
        axes = range(ndim) if self.axis is None else self.axis if isinstance(self.axis, tuple) else (self.axis,)
        return [axis % ndim for axis in axes]

    def count(self, shape: tuple[int, ...]) -> int:
        """How many elements of an input of `shape` make one of the output."""
        return math.prod(shape[axis] for axis in self.axes(len(shape)))

    def kept(self, reduced: Any, ndim: int) -> Any:
        """An array of the output's shape with the reduced axes back, of size 1; one number may stay without axes."""
        if self.keepdims or self.axis is None:
            return reduced
        lost = self.axes(ndim)
        sizes = iter(reduced.shape)
        return reduced.reshape(tuple(1 if axis in lost else next(sizes) for axis in range(ndim)))


class Sum(_Reduction):
    def forward(self, x: Array) -> Array:
        self.shape_in = x.shape
        return x.sum(axis=self.axis, keepdims=self.keepdims)

    def backward(self, gy: Gradient) -> Gradient:
        return broadcast_to(self.kept(gy, len(self.shape_in)), self.shape_in)


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Σ x over `axis`, as `numpy.sum`.

    Backward repeats the gradient (the sum node of *Deep Learning from Scratch 2*, ch. 1).

    Args:
        x: array or Variable, of any shape.
        axis: an axis, or a tuple of them; all by default.
        keepdims: leave those axes in the shape, with size 1.

    Returns:
        The shape of x without those axes, in its dtype (small integers wider, as in NumPy); 0 of no elements.

    Raises:
        AxisError: there is no such axis.
        ValueError: an axis comes twice.
    """
    return Sum(axis, keepdims)(x)


class Mean(_Reduction):
    def forward(self, x: Array) -> Array:
        self.shape_in = x.shape
        return x.mean(axis=self.axis, keepdims=self.keepdims)

    def backward(self, gy: Gradient) -> Gradient:
        share = precise(gy) / float(self.count(self.shape_in))
        return broadcast_to(self.kept(share, len(self.shape_in)), self.shape_in)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Σ x / N over `axis`, as `numpy.mean`.

    Args:
        x: array or Variable, of any shape.
        axis: an axis, or a tuple of them; all by default.
        keepdims: leave those axes in the shape, with size 1.

    Returns:
        The shape of x without those axes, in its dtype (float64 for integers); NaN of no elements, with a warning.

    Raises:
        AxisError: there is no such axis.
        ValueError: an axis comes twice.
    """
    return Mean(axis, keepdims)(x)


class Var(_Reduction):
    saves_inputs = True

    def __init__(self, axis: Axis = None, keepdims: bool = False, ddof: float = 0) -> None:
        super().__init__(axis, keepdims)
        self.ddof = ddof

    def forward(self, x: Array) -> Array:
        return half_again(precise(x).var(axis=self.axis, ddof=self.ddof, keepdims=self.keepdims), x)

    def backward(self, gy: Gradient) -> Gradient:
        return self.kept(gy, self.inputs[0].ndim) * self.deviations() * 2.0

    def deviations(self) -> Gradient:
        """(x - mean) / (N - ddof): half the derivative of the variance."""
        x = precise(self.inputs[0])
        return (x - x.mean(axis=self.axis, keepdims=True)) / float(self.count(x.shape) - self.ddof)


def var(x: Any, axis: Axis = None, keepdims: bool = False, ddof: float = 0) -> Any:
    """Variance Σ (x - mean)² / (N - ddof) over `axis`, as `numpy.var`.

    Args:
        x: array or Variable, of any shape.
        axis: an axis, or a tuple of them; all by default.
        keepdims: leave those axes in the shape, with size 1.
        ddof: what is taken off N: 0 by default as in NumPy, where PyTorch has 1.

    Returns:
        The shape of x without those axes, in its dtype (float64 for integers); NaN of no elements, with a warning.

    Raises:
        AxisError: there is no such axis.
        ValueError: an axis comes twice.
    """
    return Var(axis, keepdims, ddof)(x)


class Std(Var):
    saves_output = True

    def forward(self, x: Array) -> Array:
        return half_again(precise(x).std(axis=self.axis, ddof=self.ddof, keepdims=self.keepdims), x)

    def backward(self, gy: Gradient) -> Gradient:
        return self.kept(gy / _infinite_where_zero(self.output), self.inputs[0].ndim) * self.deviations()


def std(x: Any, axis: Axis = None, keepdims: bool = False, ddof: float = 0) -> Any:
    """Standard deviation, √ of `var`, as `numpy.std`; derivative 0 where all elements are equal, as in PyTorch.

    Args:
        x: array or Variable, of any shape.
        axis: an axis, or a tuple of them; all by default.
        keepdims: leave those axes in the shape, with size 1.
        ddof: what is taken off N: 0 by default as in NumPy, where PyTorch has 1.

    Returns:
        The shape of x without those axes, in its dtype (float64 for integers); NaN of no elements, with a warning.

    Raises:
        AxisError: there is no such axis.
        ValueError: an axis comes twice.
    """
    return Std(axis, keepdims, ddof)(x)


class Norm(_Reduction):
    saves_inputs = saves_output = True

    def forward(self, x: Array) -> Array:
        wide = precise(x)
        return half_again(np.sqrt((wide * wide).sum(axis=self.axis, keepdims=self.keepdims)), x)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        return x * self.kept(gy / _infinite_where_zero(self.output), x.ndim)


def norm(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Euclidean length √Σ x² over `axis`; derivative x / length, 0 at 0, as in PyTorch.

    Of a matrix without `axis` it is Frobenius's norm, as `numpy.linalg.norm` has it.

    Args:
        x: array or Variable, of any shape.
        axis: an axis, or a tuple of them; all by default.
        keepdims: leave those axes in the shape, with size 1.

    Returns:
        The shape of x without those axes, in its dtype (float64 for integers); 0 of no elements.

    Raises:
        AxisError: there is no such axis.
        ValueError: an axis comes twice.
    """
    return Norm(axis, keepdims)(x)


class Prod(_Reduction):
    saves_inputs = True

    def forward(self, x: Array) -> Array:
        return x.prod(axis=self.axis, keepdims=self.keepdims)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        lost = self.axes(x.ndim)
        order = [*lost, *(axis for axis in range(x.ndim) if axis not in lost)]
        factors = x.transpose(order)
        count = self.count(x.shape)
        others = _products_of_the_others(factors.reshape(count, math.prod(factors.shape[len(lost) :])))
        back = np.argsort(order).tolist()
        return self.kept(gy, x.ndim) * others.reshape(factors.shape).transpose(back)


def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Product over `axis`, as `numpy.prod`. Zeros are factors like all others, as backward does not divide.

    Args:
        x: array or Variable, of any shape.
        axis: an axis, or a tuple of them; all by default.
        keepdims: leave those axes in the shape, with size 1.

    Returns:
        The shape of x without those axes, in its dtype (small integers wider, as in NumPy); 1 of no elements.

    Raises:
        AxisError: there is no such axis.
        ValueError: an axis comes twice.
    """
    return Prod(axis, keepdims)(x)


class Cumsum(Function):
    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Array) -> Array:
        return half_again(x.cumsum(axis=self.axis, dtype=np.float32 if x.dtype.char == "e" else None), x)

    def backward(self, gy: Gradient) -> Gradient:
        return flip(cumsum(flip(gy, self.axis), self.axis), self.axis)


def cumsum(x: Any, axis: int | None = None) -> Any:
    """Sums of the elements up to each one along `axis`, itself included, as `numpy.cumsum`.

    On a GPU, CuPy adds up a vector of floats in any order (CUB's scan): it rounds otherwise in every run.

    Args:
        x: array or Variable, of any shape.
        axis: an axis, or None to flatten x first.

    Returns:
        The shape of x, or (x.size,) without `axis`; in its dtype (small integers wider, as in NumPy).

    Raises:
        AxisError: there is no such axis.
    """
    return Cumsum(0)(Reshape((-1,))(x)) if axis is None else Cumsum(axis)(x)


class Max(_Reduction):
    saves_inputs = saves_output = True

    def forward(self, x: Array) -> Array:
        return x.max(axis=self.axis, keepdims=self.keepdims)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        best = precise((x == self.kept(self.output, x.ndim)).astype(gy.dtype))  # float16 counts no further than 65,504
        return self.kept(gy, x.ndim) * (best / best.sum(axis=self.axis, keepdims=True))


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Largest element along `axis`, as `numpy.max`; equal ones share the gradient, as in PyTorch's `amax`.

    Args:
        x: array or Variable, of any shape.
        axis: an axis, or a tuple of them; all by default.
        keepdims: leave those axes in the shape, with size 1.

    Returns:
        The shape of x without those axes, in its dtype; NaN where there is one.

    Raises:
        AxisError: there is no such axis.
        ValueError: an axis comes twice, or has no elements.
    """
    return Max(axis, keepdims)(x)


class Min(Max):
    def forward(self, x: Array) -> Array:
        return x.min(axis=self.axis, keepdims=self.keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Smallest element along `axis`, as `numpy.min`; equal ones share the gradient, as in PyTorch's `amin`.

    Args:
        x: array or Variable, of any shape.
        axis: an axis, or a tuple of them; all by default.
        keepdims: leave those axes in the shape, with size 1.

    Returns:
        The shape of x without those axes, in its dtype; NaN where there is one.

    Raises:
        AxisError: there is no such axis.
        ValueError: an axis comes twice, or has no elements.
    """
    return Min(axis, keepdims)(x)


class Logsumexp(_Reduction):
    saves_inputs = saves_output = True

    def forward(self, x: Array) -> Array:
        wide = precise(x)
        top = wide.max(axis=self.axis, keepdims=True)
        top = np.where(np.isfinite(top), top, 0)  # a row of -inf has the sum 0, whose logarithm is -inf
        with np.errstate(divide="ignore"):
            y = half_again(np.log(np.exp(wide - top).sum(axis=self.axis, keepdims=True)) + top, x)
        return y if self.keepdims else np.squeeze(y, self.axis)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        total = where(self.output == -np.inf, 0, self.output)  # so that e^-inf, and not e^(inf - inf), is what is left
        return self.kept(gy, x.ndim) * exp(x - self.kept(total, x.ndim))


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Log Σ e^x along `axis`, without overflow, as `scipy.special.logsumexp`; derivative softmax(x).

    Args:
        x: array or Variable, of any shape.
        axis: an axis, or a tuple of them; all by default.
        keepdims: leave those axes in the shape, with size 1.

    Returns:
        The shape of x without those axes, in its dtype (float64 for integers). Of nothing but -inf it is -inf, with
        derivative 0.

    Raises:
        AxisError: there is no such axis.
        ValueError: an axis comes twice, or has no elements.
    """
    return Logsumexp(axis, keepdims)(x)


def _infinite_where_zero(y: Any) -> Any:
    """A divisor that makes 0 of what y = 0 would make infinite."""
    return where(y == 0, math.inf, y)


def _products_of_the_others(x: Any) -> Any:
    """Of each element of x (N, D), the product of all others in its column, without a division.

    A tree: the products of pairs, of pairs of pairs, up to the product of all; then down again, where the others of one
    half of a pair are the others of the pair times the other half. 2 log₂ N steps.
    """
    n, width = x.shape
    size = 1 << (n - 1).bit_length() if n else 1
    xp = get_array_module(getattr(x, "_data", x))
    if size != n:
        x = concatenate((x, xp.ones((size - n, width), x.dtype)))
    levels = []
    while len(x) > 1:
        pairs = x.reshape(len(x) // 2, 2, width)
        levels.append(pairs)
        left, right = unstack(pairs, axis=1)
        x = left * right
    others = xp.ones((1, width), x.dtype)
    for pairs in reversed(levels):
        others = (others.reshape(len(pairs), 1, width) * flip(pairs, axis=1)).reshape(2 * len(pairs), width)
    return others if size == n else others[:n]
