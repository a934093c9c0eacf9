"""The gradient of a table of which only some rows were looked up: those rows, and nothing of the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import Array, asnumpy, get_array_module, sum_duplicates


class RowSparse:
    """A (V, …) array that is zero outside some rows.

    An embedding of 10,000 words × 650 is 26 MB; a batch of 700 words touches 2 MB of it. Engine and optimizers handle
    this class wherever they handle an array; it can be added to one, and multiplied with a number. As PyTorch's sparse
    COO gradients, with one sparse axis.

    Args:
        rows: integers (K,), ids of the rows in [0, V), in any order, with repeats: their values add up.
        values: (K, …), of a floating dtype, one row of the array for each id.
        shape: (V, …), the shape of the whole. Nothing is checked: this is what `embedding` makes in every backward.
    """

    __array_ufunc__ = None
    __slots__ = ("rows", "shape", "values")

    def __init__(self, rows: Array, values: Array, shape: tuple[int, ...]) -> None:
        self.rows, self.values, self.shape = rows, values, shape

    @property
    def dtype(self) -> np.dtype:
        """That of the values."""
        return self.values.dtype

    def astype(self, dtype: Any) -> RowSparse:
        """The same rows with values of another dtype.

        Args:
            dtype: NumPy's name of a dtype, or the dtype.

        Returns:
            A RowSparse that shares the rows.
        """
        return RowSparse(self.rows, self.values.astype(dtype), self.shape)

    def coalesce(self) -> RowSparse:
        """The same array with every row named once, in increasing order: K is the number of distinct rows."""
        return RowSparse(*sum_duplicates(self.rows, self.values), self.shape)

    def copy(self) -> RowSparse:
        """A RowSparse of the same rows, values and dtype, of its own memory."""
        return RowSparse(self.rows.copy(), self.values.copy(), self.shape)

    def to_dense(self) -> Array:
        """The whole array (V, …), zeros included, of the dtype of the values."""
        dense = get_array_module(self.values).zeros(self.shape, self.dtype)
        compact = self.coalesce()
        dense[compact.rows] = compact.values
        return dense

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(asnumpy(self.to_dense()), dtype)

    def __add__(self, other: RowSparse | Array) -> RowSparse | Array:
        if other.shape != self.shape:
            raise ValueError(f"RowSparse of shape {self.shape} + an array of shape {other.shape}: they must be equal")
        if isinstance(other, RowSparse):
            xp = get_array_module(self.values)
            rows = xp.concatenate((self.rows, other.rows))
            return RowSparse(rows, xp.concatenate((self.values, other.values)), self.shape)
        dense = other.astype(np.result_type(self.dtype, other.dtype))  # always a copy
        self.add_to(dense)
        return dense

    __radd__ = __add__

    def __mul__(self, number: float) -> RowSparse:
        return RowSparse(self.rows, self.values * number, self.shape) if np.ndim(number) == 0 else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, number: float) -> RowSparse:
        return RowSparse(self.rows, self.values / number, self.shape) if np.ndim(number) == 0 else NotImplemented

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"RowSparse has no {name!r}; its to_dense() is the whole array, and values are its rows")

    def add_to(self, dense: Array) -> None:
        """Add these rows to an array in place.

        Args:
            dense: (V, …), writable.
        """
        compact = self.coalesce()
        dense[compact.rows] += compact.values

    def __repr__(self) -> str:
        return f"RowSparse({len(self.rows)} rows of {self.shape}, {self.dtype})"
