"""How a text is cut: bars end to end, a row for each way of cutting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from .style import PALETTE, style

_GAP = 0.15  # between two bars, in units of the axis


def segments(rows: Mapping[str, Sequence[int]], x_label: str = "time step", title: str | None = None) -> Figure:
    """Draw lengths as bars end to end (*Dive into Deep Learning*, fig. 9.7.1).

    Args:
        rows: for each name, from top to bottom, the lengths of its pieces, in units of the axis.
        x_label: of the axis.
        title: of the figure; none by default.

    Returns:
        The figure, 6 inches wide and 0.6 + 0.4 for each row high.

    Raises:
        ValueError: there are no rows, or one has no pieces.

    Example:
        >>> figure = segments({"full": [6], "truncated": [2, 2, 2]})
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['full', 'truncated']
    """
    if not rows or not all(map(len, rows.values())):
        raise ValueError("segments: every row needs pieces, and there must be one row at least")
    with style():
        figure = Figure(figsize=(6.0, 0.6 + 0.4 * len(rows)))
        axes = figure.subplots()
        for i, lengths in enumerate(rows.values()):
            ends = np.cumsum(lengths)
            axes.barh(
                np.full(len(ends), i),
                np.asarray(lengths) - _GAP,
                left=ends - lengths,
                height=0.5,
                color=PALETTE[i % len(PALETTE)],
            )
        axes.set_yticks(range(len(rows)), list(rows))
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, max(sum(lengths) for lengths in rows.values()))
        axes.set_xlabel(x_label)
        if title is not None:
            axes.set_title(title)
    return figure
