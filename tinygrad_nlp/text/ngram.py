"""n-gram language models, with Laplace's smoothing and with that of Kneser and Ney; and how often n-grams occur.

All counting is sorting: a context of m ids has a number, which is found from the number of the context of m - 1 ids
after it and the one id before it. So a number per level and place is all that is kept of a text, and any n will do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class _Level(NamedTuple):
    """What was seen behind contexts of one length.

    Attributes:
        contexts: sorted keys (C,): number of the context without its first id · V + that id; the place is its number.
        events: sorted keys (E,): number of the context · V + the id that followed.
        counts: of the events (E + 1,), float64; the last is 0, for what was not seen, whose place is -1.
        totals: of the events of each context (C + 1,), float64; the last is 0.
        kinds: how many different ids followed each context (C + 1,), float64; the last is 0.
    """

    contexts: np.ndarray
    events: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    kinds: np.ndarray


class NGram:
    """An n-gram language model: the probability of an id given the n - 1 before it. A subclass says how it is smoothed.

    Where fewer ids came before, at the start of a text, the context is as long as it can be.

    Args:
        ids: the text (L,), integers in [0, vocab_size).
        n: 1 or more; the text before an id is looked at n - 1 ids back.
        vocab_size: V, how many ids there are.
        eos: the id of a sentence's end: no context reaches beyond it, and what comes first in a text comes behind one;
            by default a text is one sentence.

    Raises:
        TypeError: ids that are no integers.
        ValueError: an empty text, ids or an eos out of range, or n below 1.
    """

    def __init__(self, ids: np.ndarray, n: int, vocab_size: int, eos: int | None = None) -> None:
        if n < 1:
            raise ValueError(f"{type(self).__name__}: n must be at least 1, not {n}")
        self.n, self.vocab_size, self.eos = n, vocab_size, eos
        self._checked([] if eos is None else [eos])
        ids = self._checked(ids)
        if not len(ids):
            raise ValueError(f"{type(self).__name__}: the text is empty")
        before = self._before(ids, np.zeros(0, np.int64))
        contexts, keys = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
        self._levels: list[_Level] = []
        ends: list[np.ndarray] = []  # of each level the events whose context cannot be longer
        for m in range(n):
            known = contexts >= 0
            if m:
                known &= before[m - 1] >= 0
                ends.append(keys[(keys >= 0) & ~known])
                table, numbers = np.unique((contexts * vocab_size + before[m - 1])[known], return_inverse=True)
                contexts = np.full(len(ids), -1)
                contexts[known] = numbers
            else:
                table = np.zeros(1, np.int64)
            keys = np.where(known, contexts * vocab_size + ids, -1)
            events, counts = np.unique(keys[known], return_counts=True)
            self._levels.append(_level(table, events, counts, vocab_size))
        self._smooth(ends)

    def _smooth(self, ends: list[np.ndarray]) -> None:
        """Change the counts as the smoothing wants it."""

    def _mix(self, m: int, lower: Any, count: Any, number: Any) -> Any:
        """Probabilities at level m, from those of the level below, counts, and the contexts' numbers (-1: not seen)."""
        raise NotImplementedError(f"{type(self).__name__}._mix")

    # --- probabilities ------------------------------------------------------------------------------------------------

    def log_probabilities(self, ids: np.ndarray, context: np.ndarray | tuple[int, ...] = ()) -> np.ndarray:
        """The logarithm of the probability of each id of a text, given those before it. Their sum is the text's.

        Args:
            ids: the text (T,).
            context: ids that came before it (S,).

        Returns:
            (T,), float64.

        Raises:
            TypeError: ids that are no integers.
            ValueError: ids out of range.
        """
        ids = self._checked(ids)
        before = self._before(ids, self._checked(context))
        p = np.full(len(ids), 1 / self.vocab_size)
        numbers = np.zeros(len(ids), np.int64)
        for m, level in enumerate(self._levels):
            if m:
                numbers = _find(level.contexts, numbers, before[m - 1], self.vocab_size)
            place = _find(level.events, numbers, ids, self.vocab_size)
            count = level.counts[place]
            visible = before[m - 1] >= 0 if m else np.ones(len(ids), bool)
            p = np.where(visible, self._mix(m, p, count, numbers), p)
        return np.log(p)

    def perplexity(self, ids: np.ndarray) -> float:
        """exp of the mean of -log P over a text.

        Args:
            ids: the text (T,).

        Returns:
            The perplexity, 1 or more.

        Raises:
            TypeError: ids that are no integers.
            ValueError: an empty text, or ids out of range.
        """
        if not len(ids):
            raise ValueError(f"{type(self).__name__}: an empty text has no perplexity")
        return float(np.exp(-self.log_probabilities(ids).mean()))

    def next_probabilities(self, context: np.ndarray | tuple[int, ...] = ()) -> np.ndarray:
        """The probability of each id behind a context.

        Args:
            context: ids (S,), of which the last n - 1 count.

        Returns:
            (V,), float64, with the sum 1.

        Raises:
            TypeError: ids that are no integers.
            ValueError: ids out of range.
        """
        before = self._before(np.zeros(1, np.int64), self._checked(context))[:, 0]
        p = np.full(self.vocab_size, 1 / self.vocab_size)
        number = np.zeros(1, np.int64)
        for m, level in enumerate(self._levels):
            if m:
                if before[m - 1] < 0:
                    break
                number = _find(level.contexts, number, before[m - 1], self.vocab_size)
            count = np.zeros(self.vocab_size)
            if number[0] >= 0:
                first = number[0] * self.vocab_size
                start, stop = np.searchsorted(level.events, (first, first + self.vocab_size))
                count[level.events[start:stop] - first] = level.counts[start:stop]
            p = self._mix(m, p, count, number)
        return p

    def step(self, ids: np.ndarray, state: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """A step function, with which `decoding` generates text.

        Args:
            ids: the last of each row (N,).
            state: those before (N, S), or None at the start.

        Returns:
            The logarithms of the probabilities of the next (N, V), float64, and the new state, at most n - 1 ids a row.

        Raises:
            TypeError: ids that are no integers.
            ValueError: ids out of range.
        """
        past = np.asarray(ids)[:, None]
        past = (past if state is None else np.concatenate((state, past), axis=1))[:, -max(self.n - 1, 1) :]
        return np.log(np.stack([self.next_probabilities(row) for row in past])), past

    # --- inside -------------------------------------------------------------------------------------------------------

    def _checked(self, ids: Any) -> np.ndarray:
        ids = np.asarray(ids)
        if ids.size and ids.dtype.kind not in "iu":
            raise TypeError(f"{type(self).__name__}: ids must be integers, not {ids.dtype}")
        if ids.ndim != 1:
            raise ValueError(f"{type(self).__name__}: ids must have one dimension, not the shape {ids.shape}")
        ids = ids.astype(np.int64)
        wrong = ids[(ids < 0) | (ids >= self.vocab_size)]
        if wrong.size:
            raise ValueError(f"{type(self).__name__}: the id {wrong[0]} is outside the vocabulary of {self.vocab_size}")
        return ids

    def _before(self, ids: np.ndarray, context: np.ndarray) -> np.ndarray:
        """The id 1, 2, … n - 1 places before each (n - 1, T); -1 where none is, or where it is out of sight."""
        edge = [] if self.eos is None else [self.eos]
        whole = np.concatenate((np.full(self.n - 1, -1), edge, context, ids)).astype(np.int64)
        before = np.empty((self.n - 1, len(ids)), np.int64)
        visible = np.ones(len(ids), bool)
        for lag in range(1, self.n):
            end = len(whole) - lag
            before[lag - 1] = np.where(visible, whole[end - len(ids) : end], -1)
            visible &= (before[lag - 1] >= 0) & (before[lag - 1] != (-1 if self.eos is None else self.eos))
        return before


class LaplaceNGram(NGram):
    """P(w | c) = (n(c, w) + α) / (n(c) + α V): every n-gram counts α more than it was seen (*Dive into …*, 9.3.1.3).

    Args:
        ids: see `NGram`.
        n: see `NGram`.
        vocab_size: see `NGram`.
        alpha: α, above 0; 1 is Laplace's.
        eos: see `NGram`.

    Raises:
        TypeError: see `NGram`.
        ValueError: see `NGram`; an α that is not above 0.

    Example:
        >>> import numpy as np
        >>> from tinygrad_nlp.text import LaplaceNGram
        >>> bigram = LaplaceNGram(np.array([0, 1, 0, 1, 0, 2]), n=2, vocab_size=3)
        >>> bigram.next_probabilities([0])  # behind 0 came 1 twice, 2 once
        array([0.16666667, 0.5       , 0.33333333])
    """

    def __init__(self, ids: np.ndarray, n: int, vocab_size: int, alpha: float = 1.0, eos: int | None = None) -> None:
        if not alpha > 0:
            raise ValueError(f"LaplaceNGram: alpha must be above 0, not {alpha}")
        self.alpha = alpha
        super().__init__(ids, n, vocab_size, eos)

    def _mix(self, m: int, lower: Any, count: Any, number: Any) -> Any:
        return (count + self.alpha) / (self._levels[m].totals[number] + self.alpha * self.vocab_size)


class KneserNeyNGram(NGram):
    """Interpolated Kneser-Ney: P(w | c) = max(a(c, w) - D, 0) / a(c) + D k(c) / a(c) · P(w | c without its first id).

    k(c) is how many different ids came behind c. At the highest level a is the count n; below, a(c, w) is in how many
    different contexts (v, c) the id was seen, and it is n where nothing can come before c, at a sentence's start. Below
    all lies 1 / V. Each level has its discount D = n₁ / (n₁ + 2 n₂), n₁ and n₂ being how many events have a = 1 and 2.
    (Kneser and Ney, 1995; Chen and Goodman, 1999, eq. 17 and section 3.)

    Args:
        ids: see `NGram`.
        n: see `NGram`.
        vocab_size: see `NGram`.
        eos: see `NGram`.

    Attributes:
        discounts: D of each level (n,), from contexts of no ids to those of n - 1.

    Raises:
        TypeError: see `NGram`.
        ValueError: see `NGram`.

    Example:
        >>> import numpy as np
        >>> from tinygrad_nlp.text import KneserNeyNGram
        >>> trigram = KneserNeyNGram(np.array([0, 1, 2, 0, 1, 2, 0, 1, 3]), n=3, vocab_size=5)
        >>> trigram.next_probabilities([0, 1]).round(2)
        array([0.02, 0.01, 0.65, 0.31, 0.01])
    """

    def _smooth(self, ends: list[np.ndarray]) -> None:
        size = self.vocab_size
        discounts = []
        for m, level in enumerate(self._levels):
            if m < self.n - 1:
                above = self._levels[m + 1]
                followed, word = np.divmod(above.events, size)
                shorter = np.searchsorted(level.events, above.contexts[followed] // size * size + word)
                last = np.searchsorted(level.events, ends[m])
                counts = np.bincount(np.concatenate((shorter, last)), minlength=len(level.events))
                self._levels[m] = level = _level(level.contexts, level.events, counts, size)
            ones, twos = (int((level.counts == k).sum()) for k in (1, 2))
            discounts.append(ones / (ones + 2 * twos) if ones else 0.5)  # with no singletons there is no estimate
        self.discounts = np.array(discounts)

    def _mix(self, m: int, lower: Any, count: Any, number: Any) -> Any:
        level, discount = self._levels[m], self.discounts[m]
        total = np.where(number >= 0, level.totals[number], 1)
        mixed = (np.maximum(count - discount, 0) + discount * level.kinds[number] * lower) / total
        return np.where(number >= 0, mixed, lower)


def ngram_counts(ids: np.ndarray, n: int) -> np.ndarray:
    """How often each n-gram of a text occurs, the most frequent first: the curve of Zipf's law.

    Args:
        ids: the text (L,), integers.
        n: 1 or more.

    Returns:
        Counts (number of different n-grams,), int64, falling; empty where L < n.

    Raises:
        ValueError: n is below 1.

    Example:
        >>> import numpy as np
        >>> from tinygrad_nlp.text import ngram_counts
        >>> ngram_counts(np.array([3, 5, 3, 5, 3, 4]), 2)
        array([2, 2, 1])
    """
    if n < 1:
        raise ValueError(f"ngram_counts: n must be at least 1, not {n}")
    ids = np.asarray(ids).astype(np.int64)
    size = int(ids.max(initial=0)) + 1
    numbers = np.zeros(max(len(ids) - n + 1, 0), np.int64)
    counts = numbers
    for k in range(n):
        keys = numbers * size + ids[k : k + len(numbers)]
        _, numbers, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return np.sort(counts)[::-1]


def zipf_exponent(counts: np.ndarray) -> tuple[float, float]:
    """Fit Zipf's law, log n_i = -α log i + c, to how often the i-th most frequent occurs (*Dive into …*, 9.2.5).

    By least squares, with each rank weighted by 1 / i, so that each factor of ranks, as the eye sees it in a log-log
    plot, counts the same; unweighted, the fit would be to the many that occur once.

    Args:
        counts: falling (R,), R ≥ 2, each 1 or more.

    Returns:
        α and c.

    Raises:
        ValueError: fewer than two counts.

    Example:
        >>> import numpy as np
        >>> from tinygrad_nlp.text import zipf_exponent
        >>> alpha, c = zipf_exponent(1000 / np.arange(1, 100) ** 0.8)
        >>> round(alpha, 6), round(float(np.exp(c)), 6)
        (0.8, 1000.0)
    """
    if len(counts) < 2:
        raise ValueError(f"zipf_exponent: at least two counts are needed, got {len(counts)}")
    rank = np.arange(1, len(counts) + 1)
    slope, c = np.polyfit(np.log(rank), np.log(counts), 1, w=1 / np.sqrt(rank))  # polyfit squares the weights
    return -float(slope), float(c)


def _level(contexts: np.ndarray, events: np.ndarray, counts: np.ndarray, size: int) -> _Level:
    context = events // size
    totals, kinds = (np.bincount(context, weights, len(contexts) + 1) for weights in (counts, np.ones(len(events))))
    return _Level(contexts, events, np.append(counts, 0.0), totals, kinds)


def _find(table: np.ndarray, number: np.ndarray, token: Any, size: int) -> np.ndarray:
    """The places of number · V + token in a sorted table; -1 where it is not, or where one of the two is -1."""
    if not len(table):
        return np.full(len(number), -1)
    key = number * size + token
    place = np.minimum(np.searchsorted(table, key), len(table) - 1)
    return (
        np.where((number >= 0) & (np.asarray(token) >= 0) & (table[place] == key), place, -1) if len(table) else place
    )
