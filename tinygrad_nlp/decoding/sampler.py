"""Sampler: draws the next ids from scores, with temperature, top-k and top-p."""

from __future__ import annotations

import numpy as np

from ..autograd.ops import softmax
from ..backend import generator


class Sampler:
    """Draws ids with the probabilities softmax(scores / temperature), of the most probable ones only.

    First the scores are divided by the temperature, then all but `top_k` are left out, and then all but the `top_p`.

    Args:
        temperature: above 0. Below 1 the probable becomes more probable, above 1 less.
        top_k: how many ids may be drawn; of equal scores the first ones; all by default.
        top_p: in (0, 1]: the fewest ids whose probabilities sum to that (Holtzman et al., 2020); all by default.
        seed: of random numbers of its own; by default they come from the library's stream (`manual_seed`).

    Raises:
        ValueError: a setting out of its range.

    Example:
        >>> import numpy as np
        >>> from tinygrad_nlp.decoding import Sampler
        >>> scores = np.log([[0.5, 0.3, 0.15, 0.05]])
        >>> Sampler(top_k=2).probabilities(scores)
        array([[0.625, 0.375, 0.   , 0.   ]])
        >>> Sampler(top_p=0.9, seed=1)(np.repeat(scores, 8, axis=0))
        array([0, 2, 0, 2, 0, 0, 1, 0])
    """

    def __init__(
        self,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> None:
        if not 0 < temperature < np.inf:
            raise ValueError(
                f"Sampler: temperature must be above 0, not {temperature}; greedy decoding takes the most probable"
            )
        if top_k is not None and top_k < 1:
            raise ValueError(f"Sampler: top_k must be at least 1, not {top_k}")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"Sampler: top_p must lie in (0, 1], not {top_p}")
        if seed is not None and seed < 0:
            raise ValueError(f"Sampler: seed must be 0 or more, not {seed}")
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self._rng = None if seed is None else np.random.default_rng(seed)

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """The probability of each id.

        Args:
            scores: (N, V), logits of any floating dtype; -inf forbids an id.

        Returns:
            (N, V), float64; each row sums to 1.

        Raises:
            ValueError: a row that forbids every id, or that holds NaN or inf.
        """
        scores = scores.astype(np.float64)
        highest = scores.max(axis=1, keepdims=True)
        if not np.isfinite(highest).all():
            raise ValueError("Sampler: a row of scores forbids every id, or holds NaN or inf")
        with np.errstate(over="ignore"):  # at a low temperature all but the highest go to -inf
            scores = (scores - highest) / self.temperature
        if self.top_k is None and self.top_p is None:
            return softmax(scores)
        order = np.argsort(-scores, axis=1, kind="stable")
        ranked = np.take_along_axis(scores, order, axis=1)
        if self.top_k is not None:
            ranked[:, self.top_k :] = -np.inf
        if self.top_p is not None:
            before = np.cumsum(softmax(ranked), axis=1)[:, :-1]  # the sum of those that are more probable
            ranked[:, 1:][before >= self.top_p] = -np.inf
        kept = np.empty_like(scores)
        np.put_along_axis(kept, order, ranked, axis=1)
        return softmax(kept)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Draw.

        Args:
            scores: (N, V), logits.

        Returns:
            Ids (N,), int64; each row takes one random number.

        Raises:
            ValueError: see `probabilities`.
        """
        cumulated = np.cumsum(self.probabilities(scores), axis=1)
        rng = generator() if self._rng is None else self._rng
        drawn = rng.random(len(scores)) * cumulated[:, -1]  # in [0, total): a last id of probability 0 is not met
        return (cumulated <= drawn[:, None]).sum(axis=1)
