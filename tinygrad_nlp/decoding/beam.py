"""Beam search: the most probable sequences as a whole, found among the most probable beginnings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from ..autograd.nested import map_nested
from ..autograd.ops import log_softmax
from .generate import Step, ask, read


class Hypothesis(NamedTuple):
    """A sequence that beam search found.

    Attributes:
        ids: (T,), int64, without the start, with the stop id where there is one.
        log_probability: log P(ids | start), in nats.
        score: that, divided by the length penalty.
    """

    ids: np.ndarray
    log_probability: float
    score: float


def take_rows(state: Any, rows: np.ndarray, axis: int = 0) -> Any:
    """Some rows of a state: of every array and Variable in tuples, lists and dictionaries, however deep.

    Args:
        state: the state of a batch; what is no array, such as None, stays as it is.
        rows: which rows of the batch, integers, with repeats.
        axis: where arrays have the batch: 1 for the layers of `nn`, whose states are (L, N, H).

    Returns:
        A state of the same form.

    Example:
        >>> import numpy as np
        >>> from tinygrad_nlp.decoding import take_rows
        >>> take_rows((np.array([10, 20, 30]), None), np.array([2, 2, 0]))
        (array([30, 30, 10]), None)
    """
    return map_nested(lambda part: part[(slice(None),) * axis + (rows,)], state)


def beam_search(
    step: Step,
    state: Any,
    start: np.ndarray | list[int],
    length: int,
    width: int = 5,
    stop: int | None = None,
    length_penalty: float = 0.0,
    select: Callable[[Any, np.ndarray], Any] = take_rows,
) -> list[list[Hypothesis]]:
    """Keep the `width` most probable beginnings of each row, and make them longer step by step.

    A sequence that has ended is scored log P / ((5 + T) / 6)^α (Wu et al., 2016), T ids with the stop id. A row is
    finished when none of its beginnings can become better than what it has found.

    Args:
        step: see `greedy`; it is called with all beginnings of all rows at once.
        state: what the first call of `step` is given, with N rows.
        start: see `greedy`.
        length: how many ids to write at most; a sequence that has not ended by then counts as it is.
        width: how many beginnings are kept, 1 or more.
        stop: the id that ends a sequence.
        length_penalty: α; 0 compares log P itself, and more lets longer sequences win.
        select: takes rows of a state, (state, rows) → state: `take_rows`, which takes them along axis 0. For the layers
            of `nn` it is `functools.partial(take_rows, axis=1)`, and for their state h beside an encoder's keys
            `lambda state, rows: (take_rows(state[0], rows, 1), take_rows(state[1], rows))`.

    Returns:
        For each row at most `width` sequences, the best first.

    Raises:
        ValueError: no ids to start from, scores of another shape, a width below 1, or a negative length or length
            penalty.
        FloatingPointError: a score is NaN.

    Example:
        >>> import numpy as np
        >>> from tinygrad_nlp.decoding import beam_search, greedy
        >>> P = np.array([[0.0, 0.6, 0.4], [0.4, 0.3, 0.3], [0.0, 0.1, 0.9]])  # the first choice is a trap
        >>> chain = lambda ids, state: (np.log(P[ids] + 1e-9), state)
        >>> greedy(chain, None, [0], 2), beam_search(chain, None, [0], 2, width=2)[0][0].ids
        (array([[1, 0]]), array([2, 2]))
    """
    if width < 1:
        raise ValueError(f"beam_search: width must be at least 1, not {width}")
    if length < 0:
        raise ValueError(f"beam_search: length must be at least 0, not {length}")
    if not length_penalty >= 0:
        raise ValueError(f"beam_search: length_penalty must not be negative, but is {length_penalty}")

    def penalty(steps: int) -> float:
        return ((5 + steps) / 6) ** length_penalty

    last, state = read(step, state, start)
    rows = len(last)
    last = last[:, None]  # (N, B): B = 1 beginning of each row, and then `width`
    beginnings = np.zeros((rows, 1, 0), np.int64)
    log_p = np.zeros((rows, 1))
    found: list[list[Hypothesis]] = [[] for _ in range(rows)]
    for t in range(1, length + 1):
        with _hint_at_select() if t > 1 else nullcontext():
            scores, state = ask(step, last.reshape(-1), state)
        size = scores.shape[1]
        longer = log_p[:, :, None] + log_softmax(scores.astype(np.float64)).reshape(*log_p.shape, size)
        candidates = _best(longer.reshape(rows, -1), 2 * width)  # at most every second of them is a stop
        parents, last, log_p = (
            np.zeros((rows, width), int),
            np.zeros((rows, width), int),
            np.full((rows, width), -np.inf),
        )
        for row in range(rows):
            kept = 0
            for candidate in candidates[row]:
                parent, token = divmod(int(candidate), size)
                value = float(longer[row, parent, token])
                if value == -np.inf:
                    break
                if token == stop:
                    ids = np.append(beginnings[row, parent], token)
                    found[row].append(Hypothesis(ids, value, value / penalty(t)))
                elif kept < width:
                    parents[row, kept], last[row, kept], log_p[row, kept] = parent, token, value
                    kept += 1
            found[row] = _ranked(found[row])[:width]
            if len(found[row]) == width and log_p[row].max() / penalty(length) <= found[row][-1].score:
                log_p[row] = -np.inf
        each = np.arange(rows)[:, None]
        with _hint_at_select():
            state = select(state, (each * beginnings.shape[1] + parents).reshape(-1))
        beginnings = np.concatenate((beginnings[each, parents], last[:, :, None]), axis=2)
        if (log_p == -np.inf).all():
            break
    for row in range(rows):
        unfinished = [
            Hypothesis(ids, float(p), float(p) / penalty(len(ids)))
            for ids, p in zip(beginnings[row], log_p[row], strict=True)
            if p > -np.inf
        ]
        found[row] = _ranked(found[row] + unfinished)[:width]
    return found


@contextmanager
def _hint_at_select() -> Iterator[None]:
    """A state whose rows were taken along the wrong axis fails there, or in the next step."""
    try:
        yield
    except (IndexError, ValueError) as error:
        error.add_note("in beam_search: is the batch the axis of the state that `select` takes rows of?")
        raise


def _best(values: np.ndarray, count: int) -> np.ndarray:
    """The places of the largest values of each row (N, K), the largest first; of equals the first."""
    count = min(count, values.shape[1])
    chosen = np.sort(np.argpartition(-values, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(values, chosen, axis=1), axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1)


def _ranked(found: list[Hypothesis]) -> list[Hypothesis]:
    return sorted(found, key=lambda hypothesis: -hypothesis.score)
