"""The nonlinearities of neural networks: element by element, and the softmax along an axis.

`tanh` is among the functions of NumPy, in elementwise.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...backend import Array
from ..engine import Gradient
from ..function import Function
from .elementwise import chosen, erf, exp, half_again, precise, where


class Sigmoid(Function):
    saves_output = True

    def forward(self, x: Array) -> Array:
        if type(x) is np.ndarray and x.size <= 512 and x.dtype.char in "fd":
            return _expit()(x)  # one call instead of four: what counts for a small array
        # 1 / (1 + e^-x) = tanh(x/2)/2 + 1/2: 10 times faster, as NumPy's tanh is vectorised. Its error is absolute
        # (6e-8 in float32), not relative: losses work on logits and never take the logarithm of this.
        y = np.tanh(x * 0.5)
        y *= 0.5
        y += 0.5
        return y

    def backward(self, gy: Gradient) -> Gradient:
        y = self.output
        slope = y - y * y
        slope *= gy  # in place for arrays; a product for Variables
        return slope


def sigmoid(x: Any) -> Any:
    """σ(x) = 1 / (1 + e^-x), the gate of an LSTM; derivative σ (1 - σ).

    Its error is absolute, 6e-8 in float32, which far below 0 is more than the value: for logarithms take `log_sigmoid`.

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x (integers give floats), in [0, 1].

    Source: *Deep Learning from Scratch 2*, ch. 6.
    """
    return Sigmoid()(x)


class LogSigmoid(Function):
    saves_inputs = True

    def forward(self, x: Array) -> Array:
        return np.minimum(x, 0.0) - np.log1p(np.exp(np.abs(x) * -1.0))  # -|x| of uint8 would be positive

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        return gy * sigmoid(-x)


def log_sigmoid(x: Any) -> Any:
    """log σ(x) = -log(1 + e^-x), as PyTorch's `logsigmoid`: exact also where σ(x) is too small for a float.

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x (integers give float64), not above 0.
    """
    return LogSigmoid()(x)


class Softplus(Function):
    saves_inputs = True

    def forward(self, x: Array) -> Array:
        return np.maximum(x, 0.0) + np.log1p(np.exp(np.abs(x) * -1.0))  # 12 times faster than logaddexp(x, 0)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        return gy * sigmoid(x)


def softplus(x: Any) -> Any:
    """log(1 + e^x), a smooth max(x, 0) (Dugas et al., 2001); derivative σ(x).

    Computed as max(x, 0) + log(1 + e^-|x|), which cannot overflow.

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x (integers give float64), not below 0.
    """
    return Softplus()(x)


class Relu(Function):
    saves_output = True

    def forward(self, x: Array) -> Array:
        if type(x) is not np.ndarray:
            return np.maximum(x, 0)
        y = np.zeros(x.shape, x.dtype)
        return np.maximum(x, y, out=y)  # with zeros, and not one zero: that is vectorised, 4 times faster

    def backward(self, gy: Gradient) -> Gradient:
        return chosen(gy, self.output > 0)


def relu(x: Any) -> Any:
    """max(x, 0), the rectifier (Nair and Hinton, 2010); derivative 0 at 0, as in PyTorch.

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x.
    """
    return Relu()(x)


class LeakyRelu(Function):
    saves_inputs = True

    def __init__(self, negative_slope: float) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Array) -> Array:
        return np.where(x > 0, x, x * self.negative_slope)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        return where(x > 0, gy, gy * self.negative_slope)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """x above 0, `negative_slope` x below (Maas et al., 2013); derivative `negative_slope` at 0, as in PyTorch.

    Args:
        x: array, number or Variable, of any shape.
        negative_slope: a number, 0.01 by default.

    Returns:
        Of the shape and dtype of x (integers give floats).
    """
    return LeakyRelu(negative_slope)(x)


class Gelu(Function):
    saves_inputs = True

    def forward(self, x: Array) -> Array:
        return x * _normal_cdf(x)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        density = exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
        return gy * (_normal_cdf(x) + x * density)


def gelu(x: Any) -> Any:
    """x Φ(x), with Φ the distribution function of the normal distribution (Hendrycks and Gimpel, 2016).

    The exact form, PyTorch's default, not the one with tanh.

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x (integers give floats).
    """
    return Gelu()(x)


class Silu(Function):
    saves_inputs = True

    def forward(self, x: Array) -> Array:
        return x * sigmoid(x)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        s = sigmoid(x)
        return gy * (s + x * (s - s * s))


def silu(x: Any) -> Any:
    """x σ(x) (Elfwing et al., 2018), also called swish (Ramachandran et al., 2017).

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x (integers give floats).
    """
    return Silu()(x)


class Softmax(Function):
    saves_output = True
    is_one_line = False  # whether all of x makes a single distribution

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Array) -> Array:
        if not x.size:  # whose maximum there is not
            return x.copy()
        if type(x) is np.ndarray and x.dtype.char in "fd" and _within_60(x):
            y = np.exp(x)  # no sum of these overflows or vanishes: the maximum is not needed, which costs most
        else:
            scores = precise(x)
            y = np.exp(scores - scores.max(axis=self.axis, keepdims=True))
        total = y.sum(axis=self.axis, keepdims=True)
        self.is_one_line = total.size == 1
        y /= total.reshape(()) if self.is_one_line else total  # a number divides faster than an array
        return half_again(y, x)

    def backward(self, gy: Gradient) -> Gradient:
        y = self.output
        if self.is_one_line:
            return y * (gy - gy.reshape(-1).dot(y.reshape(-1)))  # a number is subtracted faster than an array
        return y * (gy - (gy * y).sum(axis=self.axis, keepdims=True))


def softmax(x: Any, axis: int = -1) -> Any:
    """e^x / Σ e^x along `axis`: probabilities from scores (Bridle, 1990), without overflow, as `scipy.special.softmax`.

    Args:
        x: (…, V, …), array or Variable, V along `axis`.
        axis: the last by default.

    Returns:
        (…, V, …), of the dtype of x (float64 for integers); sums to 1 along `axis`. NaN along a line of nothing but
        -inf.

    Raises:
        AxisError: there is no such axis.
    """
    return Softmax(axis)(x)


class LogSoftmax(Function):
    saves_output = True

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Array) -> Array:
        if not x.size:  # whose maximum there is not
            return x.copy()
        scores = precise(x)
        y = scores - scores.max(axis=self.axis, keepdims=True)
        y -= np.log(np.exp(y).sum(axis=self.axis, keepdims=True))
        return half_again(y, x)

    def backward(self, gy: Gradient) -> Gradient:
        return gy - exp(self.output) * gy.sum(axis=self.axis, keepdims=True)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """Log softmax(x), from the scores: exact also where the probability is too small for a float.

    Args:
        x: (…, V, …), array or Variable, V along `axis`.
        axis: the last by default.

    Returns:
        (…, V, …), of the dtype of x (float64 for integers), not above 0. As `scipy.special.log_softmax`.

    Raises:
        AxisError: there is no such axis.
    """
    return LogSoftmax(axis)(x)


def _within_60(x: np.ndarray) -> Any:
    """Whether all elements lie between -60 and 60. Of a small array their squares tell it in a quarter of the time."""
    return np.vdot(x, x) < 60**2 if x.size <= 512 else x.min() > -60 and x.max() < 60


def _normal_cdf(x: Any) -> Any:
    return erf(x * math.sqrt(0.5)) * 0.5 + 0.5


@functools.cache
def _expit() -> Callable[[Array], Array]:
    from scipy.special import expit  # 0.1 s to import: not before it is needed

    return expit
