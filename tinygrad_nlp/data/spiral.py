"""The spiral data: three classes of points in the plane that no straight line can part."""

from __future__ import annotations

import numpy as np


def spiral(seed: int = 1984) -> tuple[np.ndarray, np.ndarray]:
    """Three spiral arms of 100 points each (*Deep Learning from Scratch 2*, ch. 1, `dataset/spiral.py`).

    Point i of class j lies at radius r = i / 100 and angle θ = 4 j + 4 r + 0.2 ε in radians, ε ~ N(0, 1), with the
    coordinates (r sin θ, r cos θ). With the default seed the points are those of the book.

    Args:
        seed: of NumPy's legacy generator, which the book uses, from 0 to 2³² - 1.

    Returns:
        The points x (300, 2), float32, and their class ids t (300,), int64, from 0 to 2, in the order of the classes.

    Raises:
        ValueError: the seed is out of range.

    Example:
        >>> x, t = spiral()
        >>> x.shape, x.dtype, t.shape, t.dtype, x[1]
        ((300, 2), dtype('float32'), (300,), dtype('int64'), array([-0.00097699,  0.00995216], dtype=float32))
    """
    classes, points = 3, 100
    t = np.repeat(np.arange(classes, dtype=np.int64), points)
    r = np.tile(np.arange(points) / points, classes)
    theta = 4 * t + 4 * r + 0.2 * np.random.RandomState(seed).randn(classes * points)
    x = np.stack([r * np.sin(theta), r * np.cos(theta)], axis=1)
    return x.astype(np.float32), t
