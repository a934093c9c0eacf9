"""Decision boundaries: which class a classifier gives to every point of the plane."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from .style import PALETTE, style

_MARKERS = "osD^vP*"  # classes differ in shape too, for print without colours
_GRID = 400  # points of the plane along each side at which the classifier is asked


def decision_boundary(
    predict: Callable[[np.ndarray], np.ndarray], x: np.ndarray, t: np.ndarray, title: str | None = None
) -> Figure:
    """Draw the regions of a classifier's classes under the data (*Deep Learning from Scratch 2*, fig. 1-33).

    Args:
        predict: takes points (n, 2), of the dtype of x, and gives class ids (n,), integers, or scores (n, C), of which
            the largest wins. It is called once, with the 160,000 points of a grid.
        x: the data (N, 2), N above 0, of a floating dtype.
        t: the class ids of the data (N,), integers from 0.
        title: of the figure; none by default.

    Returns:
        The figure, 5 by 4 inches.

    Raises:
        ValueError: x is not (N, 2), or has no rows, t is not (N,), or `predict` gives something of another shape.
        TypeError: class ids are not integers.

    Example:
        >>> x, t = np.array([[-1.0, 0.0], [1.0, 0.0]], dtype=np.float32), np.array([0, 1])
        >>> figure = decision_boundary(lambda points: (points[:, 0] > 0).astype(np.int64), x, t)
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['class 0', 'class 1']
    """
    x, t = np.asarray(x), np.asarray(t)
    if x.ndim != 2 or x.shape[1] != 2 or t.shape != x.shape[:1]:
        raise ValueError(f"expected data x (N, 2) and class ids t (N,), got {x.shape} and {t.shape}")
    # A tenth of the data's extent on every side, and a square where the data are a single point.
    low, high = x.min(axis=0), x.max(axis=0)
    margin = np.where(high > low, 0.1 * (high - low), 1.0)
    (left, bottom), (right, top) = low - margin, high + margin
    plane = np.meshgrid(np.linspace(left, right, _GRID), np.linspace(bottom, top, _GRID))
    points = np.stack(plane, axis=-1).reshape(-1, 2).astype(x.dtype)

    classes = np.asarray(predict(points))
    if classes.ndim == 2:
        classes = classes.argmax(axis=1)
    if classes.shape != (len(points),):
        raise ValueError(
            f"predict must give class ids (n,) or scores (n, C) for {len(points)} points, got {classes.shape}"
        )
    for name, ids in (("t", t), ("predict's answer", classes)):
        if ids.dtype.kind not in "iu":
            raise TypeError(f"class ids must be integers, but {name} is {ids.dtype}")

    light = np.array([_lighten(color) for color in PALETTE])
    with style():
        figure = Figure(figsize=(5.0, 4.0))
        axes = figure.subplots()
        # A picture of the classes: filled contours would draw a seam of class 1 between classes 0 and 2.
        axes.imshow(
            light[classes.reshape(_GRID, _GRID) % len(PALETTE)],
            extent=(left, right, bottom, top),
            origin="lower",
            aspect="auto",
            interpolation="antialiased",
        )
        for c in np.unique(t):
            look = c % len(PALETTE)
            axes.scatter(
                x[t == c, 0],
                x[t == c, 1],
                s=18,
                color=PALETTE[look],
                marker=_MARKERS[look],
                edgecolors="white",
                linewidths=0.4,
                label=f"class {c}",
            )
        axes.grid(visible=False)
        axes.set_xlabel("$x_1$")
        axes.set_ylabel("$x_2$")
        figure.legend(loc="outside right upper")
        if title is not None:
            axes.set_title(title)
    return figure


def _lighten(color: str) -> tuple[float, ...]:
    """A colour mixed with three parts of white."""
    return tuple(0.25 * part + 0.75 for part in to_rgb(color))
