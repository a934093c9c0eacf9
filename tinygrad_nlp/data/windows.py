"""Windows over a text of ids, for language models: x, and y, which is one token later and which x shall foretell.

`windows` gives all of them, as views, for small texts and a `DataLoader`. `RandomWindows` cuts a text of any length
anew in each epoch. `SequentialWindows` reads a text in order, so that a recurrent state can be carried from batch to
batch, as truncated back-propagation through time wants it.
"""

from __future__ import annotations

import numpy as np

from .loader import DataLoader

IGNORE = -100  # a target that does not count: the default of `nn.functional.cross_entropy`, as in PyTorch


def windows(ids: np.ndarray, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """All windows of a text, from every place of it (*Dive into Deep Learning*, 9.3.3).

    Args:
        ids: the text (L,), integers.
        num_steps: T, the length of a window.

    Returns:
        x and y, each (L - T, T), of the dtype of `ids`: views that take no memory, and cannot be written to.

    Raises:
        TypeError: `ids` are no integers.
        ValueError: they are not one-dimensional, or fewer than T + 1.

    Example:
        >>> x, y = windows(np.arange(6), num_steps=3)
        >>> x
        array([[0, 1, 2],
               [1, 2, 3],
               [2, 3, 4]])
        >>> y[0]
        array([1, 2, 3])
        >>> for x_batch, y_batch in DataLoader((x, y), batch_size=2):
        ...     print(x_batch.shape)
        (2, 3)
        (1, 3)
    """
    ids = _text(ids, num_steps, num_steps + 1)
    both = np.lib.stride_tricks.sliding_window_view(ids, num_steps + 1)
    return both[:, :-1], both[:, 1:]


class RandomWindows(DataLoader):
    """Gives out a text in windows that do not overlap, in random order; each epoch begins them at another place.

    An epoch leaves out fewer than 2 T tokens, before its first window and behind its last. It can be stopped and
    continued as any `DataLoader`; a batch is (x, y), each (n, T), int64, with n = `batch_size` but in the last batch.

    Args:
        ids: the text (L,), integers.
        batch_size: windows in a batch.
        num_steps: T, the length of a window.
        seed: of the loader's own random numbers.

    Raises:
        TypeError: `ids` are no integers.
        ValueError: they are not one-dimensional, or fewer than T + 1; sizes below 1.

    Example:
        >>> for x, y in RandomWindows(np.arange(14), batch_size=2, num_steps=3, seed=1):
        ...     print(x.tolist(), y.tolist())
        [[1, 2, 3], [4, 5, 6]] [[2, 3, 4], [5, 6, 7]]
        [[7, 8, 9]] [[8, 9, 10]]
    """

    def __init__(self, ids: np.ndarray, batch_size: int, num_steps: int, seed: int = 0) -> None:
        self.ids, self.num_steps = _text(ids, num_steps, num_steps + 1), num_steps
        count = max(1, (len(ids) - num_steps) // num_steps)
        super().__init__((np.arange(count) * num_steps,), batch_size, seed=seed)

    def _order(self) -> np.ndarray:
        places = min(self.num_steps, len(self.ids) - self._rows * self.num_steps)
        return int(self._rng.integers(places)) + self._rng.permutation(self._rows) * self.num_steps

    def _take(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        index = rows[:, None] + np.arange(self.num_steps)
        return self.ids[index].astype(np.int64), self.ids[index + 1].astype(np.int64)


class SequentialWindows(DataLoader):
    """Reads a text in order, in as many places at once as a batch has rows (*Deep Learning from Scratch 2*, fig. 5-15).

    Row r starts at its own offset, r/N of the text, and each batch goes on where the one before it ended, so that the
    state of a recurrent network belongs to the same row in the next. Over an epoch each token but the first is a target
    once. Where the text cannot be cut into N equal rows, some have one more token: in the last column of the last batch
    the target of the others is -100, which does not count in a loss.

    Args:
        ids: the text (L,), integers.
        batch_size: N, how many rows.
        num_steps: T, the length of a window; the last of an epoch may be shorter.

    A batch is (x, y), each (N, T), int64. It can be stopped and continued as any `DataLoader`; the state that the
    network carries is not the loader's.

    Raises:
        TypeError: `ids` are no integers.
        ValueError: they are not one-dimensional, or fewer than N + 1; sizes below 1.

    Example:
        >>> for x, y in SequentialWindows(np.arange(10), batch_size=2, num_steps=3):
        ...     print(x.tolist(), y.tolist())
        [[0, 1, 2], [5, 6, 7]] [[1, 2, 3], [6, 7, 8]]
        [[3, 4], [8, 9]] [[4, 5], [9, -100]]
    """

    def __init__(self, ids: np.ndarray, batch_size: int, num_steps: int) -> None:
        self.ids = _text(ids, num_steps, batch_size + 1)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        targets = len(ids) - 1
        self._ends = np.arange(1, batch_size + 1) * (targets // batch_size)
        self._ends += np.minimum(np.arange(1, batch_size + 1), targets % batch_size)
        self._starts = np.concatenate(([0], self._ends[:-1]))
        columns = int((self._ends - self._starts).max())
        super().__init__((np.broadcast_to(0, columns),), num_steps, shuffle=False)  # rows are counted, not read

    def _take(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        index = self._starts[:, None] + rows
        x = self.ids[index].astype(np.int64)
        y = self.ids[np.minimum(index + 1, len(self.ids) - 1)].astype(np.int64)
        return x, np.where(index < self._ends[:, None], y, IGNORE)


def _text(ids: np.ndarray, num_steps: int, least: int) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.ndim != 1:
        raise ValueError(f"the ids of a text must have one dimension, got the shape {ids.shape}")
    if ids.dtype.kind not in "iu":
        raise TypeError(f"the ids of a text must be integers, got {ids.dtype}")
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if len(ids) < least:
        raise ValueError(
            f"the text has {len(ids)} tokens, but at least {least} are needed: "
            "give a longer text, or smaller windows and batches"
        )
    return ids
