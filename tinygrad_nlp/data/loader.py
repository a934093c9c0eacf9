"""Mini-batches of arrays, in an order that can be stopped, saved and continued to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


class DataLoader:
    """Gives out the rows of arrays in mini-batches, every row once an epoch.

    Each `for` loop over the loader is one epoch, with an order of its own, and `len(loader)` is the number of batches
    in it. A loop that was left early is over: the next loop is the next epoch. Only a loader that `load_state_dict` has
    put into the middle of an epoch goes on there. A batch is a tuple of arrays (n, …), copies of their rows, in their
    dtypes.

    Args:
        arrays: arrays (N, …) of one length N and any dtypes, such as `(x, t)`; row i of each belongs together.
        batch_size: the number of rows in a batch, 1 or more; the last batch of an epoch may have fewer.
        shuffle: whether an epoch's order is random, as by default here and not in PyTorch, or that of the rows.
        seed: the seed of the loader's own random numbers, not negative; nothing else draws from them.
        drop_last: whether a last batch with fewer rows is left out.

    Attributes:
        arrays: those given.
        batch_size, shuffle, drop_last: as given.
        epoch: the number of epochs that are over.

    Raises:
        TypeError: `arrays` is one array, or holds something without rows.
        ValueError: the arrays have different lengths or no rows, an epoch would have no batch, `batch_size` is less
            than 1, or the seed is negative.

    Example:
        >>> x, t = np.arange(10).reshape(5, 2), np.arange(5)
        >>> for x_batch, t_batch in DataLoader((x, t), batch_size=2, shuffle=False):
        ...     print(x_batch.shape, t_batch)
        (2, 2) [0 1]
        (2, 2) [2 3]
        (1, 2) [4]
    """

    def __init__(
        self,
        arrays: tuple[np.ndarray, ...],
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if isinstance(arrays, np.ndarray):
            raise TypeError("arrays must be a tuple of arrays; for a single array write (array,)")
        if any(isinstance(array, tuple) for array in arrays):
            raise TypeError(
                "arrays must be one for each kind of data, not one example each: write [*map(list, zip(*examples))]"
            )
        self.arrays = tuple(np.asarray(array) for array in arrays)
        lengths = [len(array) for array in self.arrays]
        if len(set(lengths)) > 1:
            raise ValueError(f"the arrays must have the same length, got the lengths {lengths}")
        if not lengths or lengths[0] == 0:
            raise ValueError("there are no data: expected at least one array with at least one row")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if drop_last and batch_size > lengths[0]:
            raise ValueError(
                f"with drop_last and batch_size {batch_size}, {lengths[0]} rows do not make a single batch"
            )
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.epoch = 0
        self._rows = lengths[0]
        self._position = 0  # rows of this epoch that are given out
        self._running = False  # whether a loop over this epoch has begun in this process
        self._rng = np.random.default_rng(seed)
        self._start_of_epoch = self._rng.bit_generator.state

    def __len__(self) -> int:
        """The number of batches in a whole epoch."""
        full, rest = divmod(self._rows, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        if self._running:
            self._next_epoch()
        self._running = True
        return self._batches(self._order(), self._position)

    def _order(self) -> np.ndarray | range:
        """The rows of this epoch, in their order; all random numbers of an epoch are drawn here."""
        return self._rng.permutation(self._rows) if self.shuffle else range(self._rows)

    def _take(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """The batch of some rows."""
        return tuple(array[rows] for array in self.arrays)

    def _batches(self, order: np.ndarray | range, position: int) -> Iterator[tuple[np.ndarray, ...]]:
        end = len(self) * self.batch_size if self.drop_last else self._rows
        for start in range(position, end, self.batch_size):
            rows = np.asarray(order[start : start + self.batch_size])
            # Counted before the batch is given out: a state saved while it is at work goes on behind it.
            self._position = start + len(rows)
            yield self._take(rows)
        self._next_epoch()

    def _next_epoch(self) -> None:
        self.epoch += 1
        self._position = 0
        self._running = False
        self._start_of_epoch = self._rng.bit_generator.state

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands.

        Saved inside a loop, it goes on with the batch after the current one, and where there is none left the next loop
        is empty, as the rest of this one is; saved after a loop has ended, with the next epoch.

        Returns:
            What `load_state_dict` takes, made of types that JSON knows: the number of rows, whether they are shuffled,
            the epoch, the position in it (in rows), and the state of the random bit generator at the epoch's start,
            from which the epoch's order is drawn again.
        """
        return {
            "rows": self._rows,
            "shuffle": self.shuffle,
            "epoch": self.epoch,
            "position": self._position,
            "bit_generator": self._start_of_epoch,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go where another loader of the same data stood: the next loop gives the batches that were left.

        Args:
            state: what `state_dict` gave.

        Raises:
            ValueError: the state is of a loader with another number of rows, or with another `shuffle`.
        """
        for name, own in (("rows", self._rows), ("shuffle", self.shuffle)):
            if state[name] != own:
                raise ValueError(
                    f"the state is of a loader with {name} = {state[name]}, this loader has {name} = {own}; "
                    f"make the loader with the data and the arguments that it had when the state was saved"
                )
        self.epoch = state["epoch"]
        self._position = state["position"]
        self._running = False
        self._start_of_epoch = state["bit_generator"]
        self._rng.bit_generator.state = state["bit_generator"]
