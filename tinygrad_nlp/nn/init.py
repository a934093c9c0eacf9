"""Initial values. All draw from the library's stream (`tinygrad_nlp.manual_seed`) and fill a Parameter in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Variable
from ..backend import generator, get_array_module


def normal_(parameter: Variable, std: float = 1.0) -> None:
    """Gaussian with mean 0."""
    _fill(parameter, generator().standard_normal(parameter.shape, dtype=np.float32) * np.float32(std))


def uniform_(parameter: Variable, bound: float) -> None:
    """Uniform in [-bound, bound)."""
    _fill(parameter, generator().random(parameter.shape, dtype=np.float32) * np.float32(2 * bound) - np.float32(bound))


def zeros_(parameter: Variable) -> None:
    """Zeros."""
    _fill(parameter, 0)


def fan_in_normal_(parameter: Variable) -> None:
    """Gaussian with std 1 / √fan_in, for a weight (out, in): outputs as large as inputs (LeCun et al., 1998).

    *Deep Learning from Scratch 2* starts its LSTMs and affine layers so.
    """
    normal_(parameter, 1 / math.sqrt(parameter.shape[-1]))


def _fill(parameter: Variable, values: Any) -> None:
    data = parameter.data
    data[...] = get_array_module(data).asarray(values, data.dtype)
    parameter.data = data
