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
    """x in increasing order along `axis`; equal elements keep their order. `argsort` tells where they came from."""
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
    """The k largest elements along `axis`, the largest first, and where they are; of equal ones, any.

    Args:
        x: (…, V, …), V along `axis`.

    Returns:
        values: (…, k, …), to which the gradient belongs.
        indices: (…, k, …), a plain array of integers.
    """
    function = Topk(k, axis)
    values = function(x)
    return values, function.indices


def argsort(x: Any, axis: int = -1) -> Array:
    """The indices that sort x along `axis`, equal elements in their order: a plain array, which has no gradient."""
    return _array(x).argsort(axis=axis, kind="stable")


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Array:
    """The index of the largest element along `axis` (in the flattened array by default), the first of equal ones.

    A plain array of integers, which has no gradient.
    """
    return _array(x).argmax(axis=axis, keepdims=keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Array:
    """The index of the smallest element along `axis` (in the flattened array by default), the first of equal ones.

    A plain array of integers, which has no gradient.
    """
    return _array(x).argmin(axis=axis, keepdims=keepdims)
