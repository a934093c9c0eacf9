"""Operations that order elements. Values carry the gradient; the indices that tell the order are plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backend import Array
from ..engine import Gradient
from ..function import Function
from .elementwise import _array
from .indexing import index_along, put, take_along_axis


class Sort(Function):
    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Array) -> Array:
        self.ranking = argsort(x, self.axis)
        return np.take_along_axis(x, self.ranking, self.axis)

    def backward(self, gy: Gradient) -> Gradient:
        return take_along_axis(gy, argsort(self.ranking, self.axis), self.axis)  # the inverse of the permutation


def sort(x: Any, axis: int = -1) -> Any:
    """x in increasing order along `axis`, as `numpy.sort` with `kind="stable"`.

    The gradient goes back to where each element came from; `argsort` tells where that is.

    Args:
        x: (…, V, …), array or Variable, V along `axis`.
        axis: the last by default.

    Returns:
        (…, V, …), of the dtype of x; NaN last.

    Raises:
        AxisError: there is no such axis.
    """
    return Sort(axis)(x)


class Topk(Function):
    def __init__(self, k: int, axis: int) -> None:
        self.k, self.axis = k, axis

    def forward(self, x: Array) -> Array:
        self.shape_in = x.shape
        lines = np.moveaxis(x, self.axis, -1)
        size = lines.shape[-1]
        if not 0 <= self.k <= size:
            raise ValueError(f"k is {self.k}, but there are {size} elements along axis {self.axis}")
        # Partition, then sort: only the k best are compared with one another.
        rest = size - self.k
        best = (lines.argpartition(rest) if 0 < rest < size else lines.argsort())[..., rest:]
        falling = np.take_along_axis(lines, best, -1).argsort()[..., ::-1]
        self.indices = np.moveaxis(np.take_along_axis(best, falling, -1), -1, self.axis)
        return np.take_along_axis(x, self.indices, self.axis)

    def backward(self, gy: Gradient) -> Gradient:
        return put(gy, index_along(self.axis, self.indices, self.shape_in), self.shape_in)


def topk(x: Any, k: int, axis: int = -1) -> tuple[Any, Array]:
    """The k largest elements along `axis`, the largest first, and where they are; of equal ones, any. As `torch.topk`.

    Args:
        x: (…, V, …), array or Variable, V along `axis`.
        k: how many, from 0 to V.
        axis: the last by default.

    Returns:
        values: (…, k, …), of the dtype of x, to which the gradient belongs.
        indices: (…, k, …), a plain array of int64.

    Raises:
        ValueError: k is below 0 or above V.
        AxisError: there is no such axis.
    """
    function = Topk(k, axis)
    values = function(x)
    return values, function.indices


def argsort(x: Any, axis: int = -1) -> Array:
    """The indices that sort x along `axis`, equal elements in their order, as `numpy.argsort` with `kind="stable"`.

    Args:
        x: (…, V, …), array or Variable of any dtype, V along `axis`.
        axis: the last by default.

    Returns:
        (…, V, …), a plain array of int64, which has no gradient.

    Raises:
        AxisError: there is no such axis.
    """
    return _array(x).argsort(axis=axis, kind="stable")


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Array:
    """The index of the largest element along `axis`, the first of equal ones, as `numpy.argmax`.

    What a greedy decoder takes (the argmax node of *Deep Learning from Scratch 2*, ch. 7).

    Args:
        x: (…, V, …), array or Variable of any dtype, V along `axis`.
        axis: an axis, or None for the index in the flattened array.
        keepdims: leave the axis in the shape, with size 1.

    Returns:
        The shape of x without `axis`: a plain array of int64 (a NumPy integer where nothing is left), without gradient.

    Raises:
        AxisError: there is no such axis.
        ValueError: V is 0.
    """
    return _array(x).argmax(axis=axis, keepdims=keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Array:
    """The index of the smallest element along `axis`, the first of equal ones, as `numpy.argmin`.

    Args:
        x: (…, V, …), array or Variable of any dtype, V along `axis`.
        axis: an axis, or None for the index in the flattened array.
        keepdims: leave the axis in the shape, with size 1.

    Returns:
        The shape of x without `axis`: a plain array of int64 (a NumPy integer where nothing is left), without gradient.

    Raises:
        AxisError: there is no such axis.
        ValueError: V is 0.
    """
    return _array(x).argmin(axis=axis, keepdims=keepdims)
