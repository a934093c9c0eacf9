"""Operations that pick elements by index, and their transposes, which add values up at an index."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ...backend import Array, add_at, add_rows, asnumpy, beside, get_array_module
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
    """x[index], by NumPy's rules of indexing. Backward puts the gradient into zeros: see `put`.

    For all slices along an axis, `split` and `unstack` cost one array of zeros and not one for each.

    Args:
        x: array or Variable, of any shape.
        index: all that NumPy takes: numbers, slices, None, `...`, arrays of integers, masks; Variables as their arrays.

    Returns:
        Of the dtype of x; a view for numbers and slices, a copy for arrays.

    Raises:
        IndexError: an index is out of bounds, of no integer or boolean dtype, or there are more than x has axes.
    """
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
            add_at(out, self.index, values)
        else:
            out[self.index] = values  # 7 times faster than add.at
        return out

    def backward(self, gy: Gradient) -> Gradient:
        return getitem(gy, self.index)


def put(values: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros with `values` added at `index`, twice where it names an element twice: the transpose of `getitem`.

    Args:
        values: array or Variable, of the shape that the index picks from an array of `shape`, or what broadcasts to it.
        index: as for `getitem`.
        shape: of the result.

    Returns:
        Of `shape` and the dtype of `values`.

    Raises:
        IndexError: an index is out of bounds.
        ValueError: `values` do not broadcast to what is picked.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> tn.put(np.array([1.0, 2.0, 4.0]), np.array([0, 2, 2]), (3,))
        array([1., 0., 6.])
    """
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
    """x with `values` added to the rows that `index` names; a row that is named twice gets both. As `torch.index_add`.

    Args:
        x: (V, …), array or Variable.
        index: integers (K,), in [-V, V).
        values: (K, …), or what broadcasts to it.

    Returns:
        (V, …), a new array of the dtype of x.

    Raises:
        TypeError: the index has no integers.
        IndexError: an index outside [-V, V).
        ValueError: `values` do not broadcast to (K, …).
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
    """The slices of x that `indices` name along `axis`, as `numpy.take`.

    Args:
        x: (…A, V, …B), array or Variable, V along `axis`.
        indices: integers of any shape (…K), each in [-V, V).
        axis: an axis, or None for the elements of the flattened array.

    Returns:
        (…A, …K, …B), or (…K) without `axis`; of the dtype of x.

    Raises:
        TypeError: the indices are no integers.
        IndexError: an index outside [-V, V).
        AxisError: there is no such axis.
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
    """Every element `times` times in a row along `axis`, as `numpy.repeat`.

    Backward sums over the copies (the repeat node of *Deep Learning from Scratch 2*, ch. 1).

    Args:
        x: (…, V, …), array or Variable, V along `axis`.
        times: a number, or (V,), one for each place along `axis`.
        axis: an axis, or None to flatten x first.

    Returns:
        (…, V · times, …), or (…, Σ times, …); of the dtype of x.

    Raises:
        AxisError: there is no such axis.
        ValueError: a number is negative, or there are neither one nor V of them.
    """
    if axis is None:
        x, axis = Reshape((-1,))(x), 0
    axis = normalize_axis_index(axis, x.ndim)
    if np.ndim(times) == 0:
        return Repeat(int(times), axis)(x)
    return Take(np.repeat(np.arange(x.shape[axis]), times), axis)(x)


def take_along_axis(x: Any, indices: Any, axis: int) -> Any:
    """From each line of x along `axis`, the elements that the same line of `indices` names: PyTorch's `gather`.

    Args:
        x: (…, V, …), array or Variable, V along `axis`.
        indices: integers (…, K, …), each in [-V, V); the other axes broadcast with those of x.
        axis: which.

    Returns:
        (…, K, …), of the dtype of x. As `numpy.take_along_axis`.

    Raises:
        ValueError: indices with another number of axes.
        TypeError: indices that are no integers.
        IndexError: an index outside [-V, V), or other axes that do not broadcast.
        AxisError: there is no such axis.
    """
    indices = _integers("take_along_axis", indices)
    if indices.ndim != x.ndim:
        raise ValueError(
            f"take_along_axis: indices have {indices.ndim} axes, x has {x.ndim}: give both the same number"
        )
    return GetItem(index_along(axis, indices, x.shape))(x)


def index_along(axis: int, indices: Array, shape: tuple[int, ...]) -> tuple[Array, ...]:
    """The index, for brackets, of what `take_along_axis` takes from an array.

    Args:
        axis: along which `indices` pick.
        indices: integers (…, K, …), with as many axes as `shape`.
        shape: of the array.

    Returns:
        A tuple of integer arrays, one for each axis, which broadcast to (…, K, …).

    Raises:
        AxisError: there is no such axis.
    """
    grid: list[Any] = list(get_array_module(indices).ogrid[tuple(slice(size) for size in shape)])
    grid[normalize_axis_index(axis, len(shape))] = indices
    return tuple(grid)


def one_hot(ids: Any, size: int, dtype: Any = np.float32) -> Array:
    """Zeros, with a 1 at the place that each id names (*Deep Learning from Scratch 2*, fig. 3-5 and 3-18).

    To multiply a matrix with it is `embedding`, which picks the rows and multiplies nothing.

    Args:
        ids: integers (…), each in [0, size).
        size: how many there are.
        dtype: of the result, float32 by default.

    Returns:
        (…, size), a plain array, which has no gradient.

    Raises:
        IndexError: an id outside [0, size).
        TypeError: ids that are no integers.

    Example:
        >>> import tinygrad_nlp as tn
        >>> tn.one_hot([2, 0], 3)
        array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """
    ids, size = _integers("one_hot", ids), int(size)  # a size of NumPy's would count in its own dtype
    _check_range("one_hot", ids, size)
    xp = get_array_module(ids)
    ones = xp.zeros(ids.size * size, dtype)
    # One index takes a third of the time of one for each axis.
    ones[size * xp.arange(ids.size) + ids.reshape(-1).astype(np.int64, copy=False)] = 1
    return ones.reshape(*ids.shape, size)


class Embedding(Function):
    def __init__(self, ids: Array) -> None:
        self.ids = ids

    def forward(self, weight: Array) -> Array:
        self.shape_in = weight.shape
        if type(weight) is not np.ndarray:
            self.ids = beside(self.ids, weight)
        return weight.take(self.ids, axis=0)

    def backward(self, gy: Gradient) -> Gradient:
        # Leaves take rows; a table that was computed, and a graph of gradients, need the whole array.
        if isinstance(gy, Variable) or not isinstance(self.edges[0], Leaf):
            return put(gy, self.ids, self.shape_in)
        values = gy.reshape(self.ids.size, *self.shape_in[1:])
        return RowSparse(self.ids.reshape(-1), values, self.shape_in)


def embedding(ids: Any, weight: Any) -> Any:
    """The rows of a table that `ids` name; the gradient of a leaf is row-sparse.

    It is the embedding layer of *Deep Learning from Scratch 2* (fig. 4-4): backward adds up the gradients of equal ids.

    Args:
        ids: integers (…), each in [0, V).
        weight: the table (V, D), array or Variable.

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
