"""Operations that pick elements by index, and their transposes, which add values up at an index."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backend import Array, asnumpy, get_array_module
from ..engine import Gradient, Leaf
from ..function import Function
from ..sparse import RowSparse
from ..variable import Variable


class GetItem(Function):
    def __init__(self, index: Any) -> None:
        self.index = index

    def forward(self, x: Array) -> Array:
        self.shape_in = x.shape
        return x[self.index]

    def backward(self, gy: Gradient) -> Gradient:
        return put(gy, self.index, self.shape_in)


def getitem(x: Any, index: Any) -> Any:
    """x[index], for every index that NumPy takes: numbers, slices, None, `...`, arrays of integers, masks."""
    return GetItem(_plain(index))(x)


class Put(Function):
    def __init__(self, index: Any, shape: tuple[int, ...]) -> None:
        self.index, self.to = index, shape

    def forward(self, values: Array) -> Array:
        xp = get_array_module(values)
        out = xp.zeros(self.to, values.dtype)
        if _may_repeat(self.index):
            xp.add.at(out, self.index, values)
        else:
            out[self.index] = values  # 7 times faster than add.at
        return out

    def backward(self, gy: Gradient) -> Gradient:
        return getitem(gy, self.index)


def put(values: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of `shape` with `values` added at `index`; where an element is named twice, both are added."""
    return Put(_plain(index), shape)(values)


class Embedding(Function):
    def __init__(self, ids: Array) -> None:
        self.ids = ids

    def forward(self, weight: Array) -> Array:
        self.shape_in = weight.shape
        return weight.take(self.ids, axis=0)

    def backward(self, gy: Gradient) -> Gradient:
        # Leaves take rows; a table that was computed, and a graph of gradients, need the whole array.
        if isinstance(gy, Variable) or not isinstance(self.edges[0], Leaf):
            return put(gy, self.ids, self.shape_in)
        values = gy.reshape(self.ids.size, *self.shape_in[1:])
        return RowSparse(self.ids.reshape(-1), values, self.shape_in)


def embedding(ids: Any, weight: Any) -> Any:
    """The rows of a table that `ids` name; the gradient of a leaf is row-sparse.

    Args:
        ids: integers (…), each in [0, V).
        weight: the table (V, D).

    Returns:
        (…, D), of the dtype of `weight`.

    Raises:
        IndexError: an id outside the table.
        TypeError: ids that are no integers.
    """
    ids = _plain(ids)
    if not hasattr(ids, "dtype"):
        ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"embedding: ids must be integers, not {ids.dtype}")
    if ids.size and (ids.min() < 0 or ids.max() >= len(weight)):
        wrong = asnumpy(ids[(ids < 0) | (ids >= len(weight))])
        raise IndexError(
            f"embedding: id {wrong[0]} is outside the vocabulary of {len(weight)} (ids go from 0 to {len(weight) - 1})"
        )
    return Embedding(ids)(weight)


def _plain(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_plain(part) for part in index)
    return index.data if isinstance(index, Variable) else index


def _may_repeat(index: Any) -> bool:
    """Whether an index may name an element twice: only arrays and sequences of integers can."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(
        isinstance(part, list | tuple) or (hasattr(part, "dtype") and part.dtype != bool and part.ndim)
        for part in parts
    )
