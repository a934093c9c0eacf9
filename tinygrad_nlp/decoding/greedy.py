"""Greedy decoding: at each step the most probable next id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Variable, no_grad
from ..backend import asnumpy

Step = Callable[[np.ndarray, Any], tuple[Any, Any]]


def greedy(step: Step, state: Any, start: np.ndarray | list[int], length: int, stop: int | None = None) -> np.ndarray:
    """Let a model write, always with the most probable next id.

    Args:
        step: called with the last ids (N,) and the state; returns the scores of the next (N, V), as an array or a
            Variable, and the new state.
        state: what the first call of `step` is given.
        start: the ids that come before the first one written, (N,).
        length: how many ids to write at most.
        stop: an id after which a row is over: the rest of it is filled with this id.

    Returns:
        The ids (N, T), T ≤ `length`, without the start.

    Example:
        >>> import numpy as np
        >>> count_up = lambda ids, state: (np.eye(5)[(ids + 1) % 5], state)
        >>> greedy(count_up, None, [0, 2], 3)
        array([[1, 2, 3],
               [3, 4, 0]])
    """
    ids = np.asarray(start)
    written = []
    over = np.zeros(len(ids), bool)
    with no_grad():
        for _ in range(length):
            scores, state = step(ids, state)
            ids = asnumpy(scores.data if isinstance(scores, Variable) else scores).argmax(axis=-1)
            if stop is not None:
                ids = np.where(over, stop, ids)
                over |= ids == stop
            written.append(ids)
            if over.all():
                break
    return np.stack(written, axis=1) if written else np.zeros((len(ids), 0), int)
