"""Operations that pick elements by index, and their transposes, which add values up at an index."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ...backend import Array, add_rows, asnumpy, get_array_module
from ..engine import Gradient, Leaf
from ..function import Function
from ..modes import in_layer, modes
from ..sparse import RowSparse
from ..variable import Variable
from .shaping import Reshape


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
        rows = _rows(self.index)
        if rows is not None:
            _add_rows(out, rows, values)
        elif _may_repeat(self.index):
            xp.add.at(out, self.index, values)
        else:
            out[self.index] = values  # 7 times faster than add.at
        return out

    def backward(self, gy: Gradient) -> Gradient:
        return getitem(gy, self.index)


def put(values: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of `shape` with `values` added at `index`; where an element is named twice, both are added."""
    return Put(_plain(index), shape)(values)


class IndexAdd(Function):
    def __init__(self, index: Array) -> None:
        self.index = index

    def forward(self, x: Array, values: Array) -> Array:
        y = x.copy()
        _add_rows(y, self.index, values)
        return y

    def backward(self, gy: Gradient) -> Gradient:
        return gy, None if self.edges[1] is None else take(gy, self.index, axis=0)


def index_add(x: Any, index: Any, values: Any) -> Any:
    """x with `values` added to the rows that `index` names; a row that is named twice gets both.

    Args:
        x: (V, …).
        index: integers (K,), in [-V, V).
        values: (K, …), or what broadcasts to it.

    Returns:
        (V, …), a new array.
    """
    return IndexAdd(_integers("index_add", index))(x, values)


class Take(Function):
    def __init__(self, indices: Array, axis: int) -> None:
        self.indices, self.axis = indices, axis

    def forward(self, x: Array) -> Array:
        self.shape_in = x.shape
        return x.take(self.indices, axis=self.axis)

    def backward(self, gy: Gradient) -> Gradient:
        return put(gy, (slice(None),) * self.axis + (self.indices,), self.shape_in)


def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """The slices of x that `indices` name along `axis`; by default the elements of the flattened array.

    Args:
        x: (…A, V, …B), V along `axis`.
        indices: integers of any shape (…K), each in [-V, V).

    Returns:
        (…A, …K, …B).
    """
    indices = _integers("take", indices)
    if axis is None:
        return Take(indices, 0)(Reshape((-1,))(x))
    return Take(indices, normalize_axis_index(axis, x.ndim))(x)


class Repeat(Function):
    def __init__(self, times: int, axis: int) -> None:
        self.times, self.axis = times, axis

    def forward(self, x: Array) -> Array:
        self.shape_in = x.shape
        return x.repeat(self.times, self.axis)

    def backward(self, gy: Gradient) -> Gradient:
        after = self.axis + 1
        return gy.reshape(*self.shape_in[:after], self.times, *self.shape_in[after:]).sum(axis=after)


def repeat(x: Any, times: Any, axis: int | None = None) -> Any:
    """Every element `times` times in a row along `axis`, by default of the flattened array.

    Args:
        times: a number, or one for each place along `axis`.
    """
    if axis is None:
        x, axis = Reshape((-1,))(x), 0
    axis = normalize_axis_index(axis, x.ndim)
    if np.ndim(times) == 0:
        return Repeat(int(times), axis)(x)
    return Take(np.repeat(np.arange(x.shape[axis]), times), axis)(x)


def take_along_axis(x: Any, indices: Any, axis: int) -> Any:
    """From each line of x along `axis`, the elements that the same line of `indices` names: PyTorch's gather.

    Args:
        x: (…, V, …), V along `axis`.
        indices: integers (…, K, …), each in [-V, V); the other axes broadcast with those of x.

    Returns:
        (…, K, …).

    Raises:
        ValueError: indices with another number of axes.
        TypeError: indices that are no integers.
    """
    indices = _integers("take_along_axis", indices)
    if indices.ndim != x.ndim:
        raise ValueError(
            f"take_along_axis: indices have {indices.ndim} axes, x has {x.ndim}: give both the same number"
        )
    return GetItem(index_along(axis, indices, x.shape))(x)


def index_along(axis: int, indices: Array, shape: tuple[int, ...]) -> tuple[Array, ...]:
    """The index, for brackets, of what `take_along_axis` takes from an array of `shape`."""
    grid: list[Any] = list(get_array_module(indices).ogrid[tuple(slice(size) for size in shape)])
    grid[normalize_axis_index(axis, len(shape))] = indices
    return tuple(grid)


def one_hot(ids: Any, size: int, dtype: Any = np.float32) -> Array:
    """A plain array (…, size) of zeros, with a 1 at the place that each of `ids` (…) names. It has no gradient.

    To multiply a matrix with it is `embedding`, which picks the rows and multiplies nothing.

    Raises:
        IndexError: an id outside [0, size).
    """
    ids = _integers("one_hot", ids)
    _check_range("one_hot", ids, size)
    return (ids[..., None] == get_array_module(ids).arange(size)).astype(dtype)


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
    ids = _integers("embedding", ids)
    _check_range("embedding", ids, len(weight))
    return Embedding(ids)(weight)


def _plain(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_plain(part) for part in index)
    return index.data if isinstance(index, Variable) else index


def _integers(name: str, ids: Any) -> Array:
    ids = _plain(ids)
    if not hasattr(ids, "dtype"):
        ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name}{in_layer(modes.scope)}: ids must be integers, not {ids.dtype}")
    return ids


def _check_range(name: str, ids: Array, size: int) -> None:
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        wrong = asnumpy(ids[(ids < 0) | (ids >= size)])
        raise IndexError(
            f"{name}{in_layer(modes.scope)}: id {wrong[0]} is outside the vocabulary of {size} "
            f"(ids go from 0 to {size - 1})"
        )


def _rows(index: Any) -> Array | None:
    """The ids, where an index is an array of ids of rows."""
    if isinstance(index, tuple) and len(index) == 1:
        (index,) = index
    return index if hasattr(index, "dtype") and index.dtype.kind in "iu" and index.ndim else None


def _add_rows(out: Array, ids: Array, values: Array) -> None:
    """out[ids] += values, for ids of any shape, and adding to a row as often as it is named."""
    row = out.shape[1:]
    add_rows(out, ids.reshape(-1), np.broadcast_to(values, ids.shape + row).reshape(ids.size, *row))


def _may_repeat(index: Any) -> bool:
    """Whether an index may name an element twice: only arrays and sequences of integers can."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(
        isinstance(part, list | tuple) or (hasattr(part, "dtype") and part.dtype != bool and part.ndim)
        for part in parts
    )
