"""Initial values. All draw from the library's stream (`tinygrad_nlp.manual_seed`) and fill a Parameter in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Variable
from ..backend import generator, get_array_module


def normal_(parameter: Variable, std: float = 1.0) -> None:
    """Gaussian with mean 0, drawn in float32.

    Args:
        parameter: of any shape; keeps its dtype.
        std: standard deviation, not negative.
    """
    _fill(parameter, generator().standard_normal(parameter.shape, dtype=np.float32) * np.float32(std))


def uniform_(parameter: Variable, bound: float) -> None:
    """Uniform in [-bound, bound), drawn in float32.

    Args:
        parameter: of any shape; keeps its dtype.
        bound: above 0.
    """
    _fill(parameter, generator().random(parameter.shape, dtype=np.float32) * np.float32(2 * bound) - np.float32(bound))


def zeros_(parameter: Variable) -> None:
    """Zeros.

    Args:
        parameter: of any shape; keeps its dtype.
    """
    _fill(parameter, 0)


def fan_in_normal_(parameter: Variable) -> None:
    """Gaussian with std 1 / √fan_in, for a weight (out, in): outputs as large as inputs (LeCun et al., 1998).

    *Deep Learning from Scratch 2* starts its recurrent and affine layers so, and calls it Xavier's, after Glorot and
    Bengio (2010), whose std √(2 / (fan_in + fan_out)) is the same for a square weight. ReLUs, which let half of it
    pass, want √2 as much (He et al., 2015).

    Args:
        parameter: (…, in), of one axis at least and with in above 0; keeps its dtype.

    Raises:
        ValueError: it has no axis, or in is 0.
    """
    if not parameter.ndim or not parameter.shape[-1]:
        raise ValueError(f"fan_in_normal_: a parameter (…, in) with in above 0 is needed, not {parameter.shape}")
    normal_(parameter, 1 / math.sqrt(parameter.shape[-1]))


def orthogonal_(parameter: Variable) -> None:
    """Orthogonal (n, n), or such matrices one above the other (k n, n): one for each gate of an LSTM.

    Multiplying with it keeps the length of a vector, so that a state is neither lost nor blown up over many steps
    (Saxe et al., 2014).

    Args:
        parameter: (n, n) or (k n, n), with n above 0; keeps its dtype. Drawn in float64.

    Raises:
        ValueError: the shape is another.
    """
    if parameter.ndim != 2 or not parameter.shape[1] or parameter.shape[0] % parameter.shape[1]:
        raise ValueError(f"orthogonal_: a parameter (n, n) or (k n, n) with n above 0 is needed, not {parameter.shape}")
    n = parameter.shape[1]
    q, r = np.linalg.qr(generator().standard_normal((len(parameter) // n, n, n)))
    # The sign of R's diagonal is the routine's choice; with it positive, Q is drawn evenly from all (Mezzadri, 2007).
    _fill(parameter, (q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]).reshape(parameter.shape))


def _fill(parameter: Variable, values: Any) -> None:
    data = parameter.data
    data[...] = get_array_module(data).asarray(values, data.dtype)
    parameter.data = data
