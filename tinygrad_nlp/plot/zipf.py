"""Zipf's law: how often the i-th most frequent word or n-gram occurs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from tinygrad_nlp.plot.style import PALETTE, style
from tinygrad_nlp.text import zipf_exponent

_POINTS = 500  # that are drawn of a curve, at ranks that lie evenly on the logarithmic axis


def zipf(counts: Mapping[str, np.ndarray], title: str | None = None) -> Figure:
    """Draw frequencies against ranks on logarithmic axes, each with its fit (*Dive into Deep Learning*, fig. 9.2.1).

    Example:
        >>> from tinygrad_nlp.text import ngram_counts
        >>> text = np.array([1, 2, 1, 3, 1, 2, 1])
        >>> figure = zipf({"unigram": ngram_counts(text, 1), "bigram": ngram_counts(text, 2)})
        >>> [label.get_text() for label in figure.axes[0].get_legend().get_texts()]
        ['unigram, α = 1.19', 'bigram, α = 0.49']

    Args:
        counts: for each name falling counts (R,), R ≥ 2, as `text.ngram_counts` gives them.
        title: of the figure; none by default.

    Returns:
        The figure; its legend tells α of log n_i = -α log i + c.

    Raises:
        ValueError: no curve, or one with fewer than two counts.
    """
    if not counts:
        raise ValueError("zipf: there are no counts to draw")
    with style():
        figure = Figure(figsize=(5.0, 3.6))
        axes = figure.subplots()
        for i, (name, n) in enumerate(counts.items()):
            alpha, c = zipf_exponent(n)
            rank = np.unique(np.geomspace(1, len(n), _POINTS).astype(int))
            color = PALETTE[i % len(PALETTE)]
            axes.plot(rank, np.asarray(n)[rank - 1], ".", markersize=3, color=color, label=f"{name}, α = {alpha:.2f}")
            axes.plot(rank, np.exp(c) * rank**-alpha, linewidth=0.8, color=color, alpha=0.6)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
        axes.set_xlabel("rank $i$")
        axes.set_ylabel("frequency $n_i$")
        axes.legend(axes.lines[::2], [str(line.get_label()) for line in axes.lines[::2]])
        if title is not None:
            axes.set_title(title)
    return figure
