"""Sequences of different lengths as one array, with a mask that says what is real."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pad_sequences(
    sequences: Sequence[Sequence[int] | np.ndarray], value: int, length: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Fill sequences up at their ends to one length (*Deep Learning from Scratch 2*, fig. 7-11).

    Args:
        sequences: N sequences of integer ids, lists or arrays (t,); a sequence may be empty.
        value: the id that fills.
        length: T, of the rows, in ids; by default that of the longest sequence.

    Returns:
        The array (N, T), int64, and its mask (N, T), bool, True where the sequence itself is.

    Raises:
        ValueError: there are no sequences, or one is longer than `length`, or is not one-dimensional.
        TypeError: a sequence has values that are not integers.

    Example:
        >>> array, mask = pad_sequences([[5, 6, 7], [8]], value=0)
        >>> array
        array([[5, 6, 7],
               [8, 0, 0]])
        >>> mask
        array([[ True,  True,  True],
               [ True, False, False]])
    """
    rows = [np.asarray(sequence) for sequence in sequences]
    for i, row in enumerate(rows):
        if row.ndim != 1:
            raise ValueError(f"sequence {i} must have one dimension, got the shape {row.shape}")
        if row.size and row.dtype.kind not in "iu":
            raise TypeError(f"sequence {i} must hold integers, got {row.dtype}")
    mask = lengths_to_mask([len(row) for row in rows], length)
    array = np.full(mask.shape, value, dtype=np.int64)
    for i, row in enumerate(rows):
        array[i, : len(row)] = row
    return array, mask


def lengths_to_mask(lengths: Sequence[int] | np.ndarray, length: int | None = None) -> np.ndarray:
    """The mask of padded sequences whose lengths are known.

    Args:
        lengths: of N sequences, (N,), integers from 0.
        length: T, of the rows; by default the largest of `lengths`.

    Returns:
        The mask (N, T), bool, True at the first `lengths[i]` places of row i.

    Raises:
        ValueError: there are no lengths, or one is negative or larger than `length`.

    Example:
        >>> lengths_to_mask([2, 0], length=3)
        array([[ True,  True, False],
               [False, False, False]])
    """
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or lengths.size == 0:
        raise ValueError(f"expected at least one sequence, got lengths of the shape {lengths.shape}")
    if length is None:
        length = int(lengths.max())
    wrong = np.flatnonzero((lengths < 0) | (lengths > length))
    if wrong.size:
        raise ValueError(f"sequence {wrong[0]} has {lengths[wrong[0]]} elements, allowed are 0 to {length}")
    return np.arange(length) < lengths[:, None]
