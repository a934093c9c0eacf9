"""Decoding one id at a time: the most probable, or a drawn one; as a stream or as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..autograd import Variable, no_grad
from ..backend import asnumpy
from .sampler import Sampler

Step = Callable[[np.ndarray, Any], tuple[Any, Any]]


def greedy(step: Step, state: Any, start: np.ndarray | list[int], length: int, stop: int | None = None) -> np.ndarray:
    """Let a model write, always with the most probable next id (the argmax of *Deep Learning from Scratch 2*, ch. 7).

    Args:
        step: called with the last ids (N,) and the state; returns the scores of the next (N, V), as an array or a
            Variable, and the new state.
        state: what the first call of `step` is given.
        start: the ids that come before the first one written, (N,), or (N, S), which are read one after the other.
        length: how many ids to write at most.
        stop: an id after which a row is over: the rest of it is filled with this id.

    Returns:
        The ids (N, T), T ≤ `length`, int64, without the start.

    Raises:
        ValueError: no ids to start from, a length below 0, or scores of another shape.
        FloatingPointError: a score is NaN.

    Example:
        >>> import numpy as np
        >>> from tinygrad_nlp.decoding import greedy
        >>> count_up = lambda ids, state: (np.eye(5)[(ids + 1) % 5], state)
        >>> greedy(count_up, None, [0, 2], 3)
        array([[1, 2, 3],
               [3, 4, 0]])
    """
    return _whole(stream(step, state, start, length, stop), start)


def sample(
    step: Step,
    state: Any,
    start: np.ndarray | list[int],
    length: int,
    stop: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
) -> np.ndarray:
    """Let a model write ids that are drawn with the probabilities that it gives them.

    (*Deep Learning from Scratch 2*, ch. 7, fig. 7-4.)

    Args:
        step: see `greedy`.
        state: see `greedy`.
        start: see `greedy`.
        length: how many ids to write at most.
        stop: an id after which a row is over.
        temperature: see `Sampler`.
        top_k: see `Sampler`.
        top_p: see `Sampler`.
        seed: of the random numbers: the same seed gives the same ids; by default they are the library's.

    Returns:
        The ids (N, T), T ≤ `length`, int64, without the start.

    Raises:
        ValueError: see `greedy`; a setting out of its range.
        FloatingPointError: a score is NaN.

    Example:
        >>> import numpy as np
        >>> from tinygrad_nlp.decoding import sample
        >>> dice = lambda ids, state: (np.zeros((len(ids), 6)), state)
        >>> sample(dice, None, [0], 10, seed=1)
        array([[3, 5, 0, 5, 1, 2, 4, 2, 3, 0]])
    """
    return _whole(stream(step, state, start, length, stop, Sampler(temperature, top_k, top_p, seed)), start)


def stream(
    step: Step,
    state: Any,
    start: np.ndarray | list[int],
    length: int | None = None,
    stop: int | None = None,
    choose: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Iterator[np.ndarray]:
    """Let a model write, and give each id out as soon as it is there.

    Args:
        step: see `greedy`.
        state: see `greedy`.
        start: see `greedy`.
        length: how many ids to write at most; None writes until every row is over, or for ever.
        stop: an id after which a row is over: from then on it gives this id.
        choose: from scores (N, V) to ids (N,): a `Sampler`, or any function; the most probable by default.

    Yields:
        The ids (N,), int64, of one step after the other, until `length` or until every row is over.

    Raises:
        ValueError: no ids to start from, a length below 0, or scores of another shape.
        FloatingPointError: a score is NaN.

    Example:
        >>> import numpy as np
        >>> from tinygrad_nlp.decoding import stream
        >>> count_up = lambda ids, state: (np.eye(5)[(ids + 1) % 5], state)
        >>> [int(ids[0]) for ids in stream(count_up, None, [0], stop=4)]
        [1, 2, 3, 4]
    """
    if length is not None and length < 0:
        raise ValueError(f"decoding: length must be at least 0, not {length}; None writes until every row is over")
    ids, state = read(step, state, start)
    over = np.zeros(len(ids), bool)
    written = 0
    while not (over.all() or written == length):
        scores, state = ask(step, ids, state)
        ids = np.asarray(scores.argmax(axis=1) if choose is None else choose(scores), np.int64)
        if stop is not None:
            ids = np.where(over, stop, ids)
            over |= ids == stop
        written += 1
        yield ids


def read(step: Step, state: Any, start: np.ndarray | list[int]) -> tuple[np.ndarray, Any]:
    """Let a model read all ids of a start but the last.

    Args:
        step: see `greedy`.
        state: see `greedy`.
        start: see `greedy`.

    Returns:
        The last ids (N,), and the state before them.

    Raises:
        ValueError: no ids to start from, or scores of another shape.
    """
    prompt = np.asarray(start)
    if prompt.ndim == 1:
        prompt = prompt[:, None]
    if prompt.ndim != 2 or not prompt.shape[1]:
        raise ValueError(f"decoding starts from ids (N,) or (N, S), at least one a row, not from {np.shape(start)}")
    for ids in prompt[:, :-1].T:
        _, state = ask(step, ids, state)
    return prompt[:, -1], state


def ask(step: Step, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
    """Make one step, without a graph, and check what it returns.

    Args:
        step: see `greedy`.
        ids: the last ones (N,).
        state: before the step.

    Returns:
        The scores (N, V) as an array of NumPy, and the new state.

    Raises:
        ValueError: scores of another shape.
        FloatingPointError: a score is NaN.
    """
    with no_grad():
        scores, state = step(ids, state)
    scores = asnumpy(scores.data if isinstance(scores, Variable) else scores)
    if scores.ndim != 2 or len(scores) != len(ids):
        raise ValueError(f"a step must return scores (N, V), N = {len(ids)}, but they have the shape {scores.shape}")
    if np.isnan(scores).any():
        raise FloatingPointError("the scores that a step returned hold NaN: look at the weights of the model")
    return scores, state


def _whole(stream: Iterator[np.ndarray], start: np.ndarray | list[int]) -> np.ndarray:
    written = list(stream)
    return np.stack(written, axis=1) if written else np.zeros((len(start), 0), np.int64)
