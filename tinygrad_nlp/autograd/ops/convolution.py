"""Convolution and pooling: products with, and the best or the mean of, every window of an array.

All of them look at the windows as a view (N, C, kernel, …, out, …) that copies nothing, and leave the rest to
operations that there are already. Its transpose adds every window back to its place.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...backend import Array, get_array_module
from ..engine import Gradient
from ..function import Function
from .elementwise import chosen
from .products import matmul
from .reductions import Mean
from .shaping import Pad

Size = int | tuple[int, ...]


class Windows(Function):
    """The windows of the last axes of x: (N, C, in, …) to (N, C, kernel, …, out, …), a view."""

    def __init__(self, kernel: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Array) -> Array:
        self.shape_in = x.shape
        outs = tuple(range(2, x.ndim))
        windows = get_array_module(x).lib.stride_tricks.sliding_window_view(x, self.kernel, axis=outs)
        windows = windows[(..., *(slice(None, None, step) for step in self.stride), *(slice(None) for _ in outs))]
        return windows.transpose(0, 1, *range(x.ndim, windows.ndim), *outs)

    def backward(self, gy: Gradient) -> Gradient:
        return AddWindows(self.kernel, self.stride, self.shape_in)(gy)


class AddWindows(Function):
    """The transpose: windows (N, C, kernel, …, out, …), added up where they lie in an array of `shape`."""

    def __init__(self, kernel: tuple[int, ...], stride: tuple[int, ...], shape: tuple[int, ...]) -> None:
        self.kernel, self.stride, self.to = kernel, stride, shape

    def forward(self, windows: Array) -> Array:
        out = get_array_module(windows).zeros(self.to, windows.dtype)
        counts = windows.shape[2 + len(self.kernel) :]
        for offset in np.ndindex(self.kernel):  # one addition for each element of the kernel, not for each window
            places = zip(offset, counts, self.stride, strict=True)
            where = tuple(slice(at, at + count * step, step) for at, count, step in places)
            out[:, :, *where] += windows[:, :, *offset]
        return out

    def backward(self, gy: Gradient) -> Gradient:
        return Windows(self.kernel, self.stride)(gy)


class Conv(Function):
    saves_inputs = True

    def __init__(self, stride: tuple[int, ...]) -> None:
        self.stride = stride

    def forward(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        windows = Windows(weight.shape[2:], self.stride)(x)
        y = matmul(_as_matrix(weight), _as_matrices(windows, weight.ndim))
        if bias is not None:
            y += bias.reshape(-1, 1)
        return y.reshape(*y.shape[:2], *windows.shape[weight.ndim :])

    def backward(self, gy: Gradient) -> Gradient:
        x, weight, *_ = self.inputs
        to_x, to_weight, *to_bias = self.edges
        kernel, rows = weight.shape[2:], _as_matrices(gy, 2)  # (N, O, out …)
        gx = gw = gb = None
        if to_x is not None:
            windows = matmul(_as_matrix(weight).transpose(), rows)
            gx = AddWindows(kernel, self.stride, x.shape)(windows.reshape(*x.shape[:2], *kernel, *gy.shape[2:]))
        if to_weight is not None:
            windows = _as_matrices(Windows(kernel, self.stride)(x), weight.ndim)
            gw = matmul(rows, windows.swapaxes(1, 2)).sum(axis=0).reshape(weight.shape)
        if to_bias and to_bias[0] is not None:
            gb = rows.sum(axis=(0, 2))
        return gx, gw, gb


def _as_matrix(weight: Any) -> Any:
    """(O, C, kernel, …) as (O, C kernel …)."""
    return weight.reshape(len(weight), math.prod(weight.shape[1:]))


def _as_matrices(x: Any, split: int) -> Any:
    """One matrix for each of the N: its rows are the axes before `split`, its columns the others."""
    return x.reshape(len(x), math.prod(x.shape[1:split]), math.prod(x.shape[split:]))


def conv1d(x: Any, weight: Any, bias: Any = None, stride: int = 1, padding: int = 0) -> Any:
    """y[n, o, t] = bias[o] + Σ x[n, c, stride t + i] weight[o, c, i], a sum over c and i, for x with zeros around it.

    Args:
        x: (N, C, T), array or Variable.
        weight: (O, C, K), as in PyTorch, whose `functional.conv1d` this is.
        bias: (O,) or None.
        stride: how far the kernel moves from one result to the next, in elements.
        padding: how many zeros to put at both ends.

    Returns:
        (N, O, (T + 2 padding - K) // stride + 1), in the dtype to which NumPy promotes those of x and weight.

    Raises:
        ValueError: another number of axes, C differs, a kernel longer than x, a bias that does not fit, a stride
            below 1, or a negative padding.
    """
    _check("conv1d", x, weight, axes=3)
    steps = _steps("conv1d", stride, 1)
    if padding:
        x = Pad(_border("conv1d", padding, 1), 0.0)(x)
    return Conv(steps)(x, weight, bias)


def conv2d(x: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Size = 0) -> Any:
    """y[n, o, s, t] = bias[o] + Σ x[n, c, stride s + i, stride t + j] weight[o, c, i, j], for x with zeros around it.

    The sum is over c, i and j (LeCun et al., 1989; as in PyTorch, whose `functional.conv2d` this is, the kernel is not
    turned round).

    Args:
        x: (N, C, H, W), array or Variable.
        weight: (O, C, KH, KW), as in PyTorch.
        bias: (O,) or None.
        stride: how far the kernel moves from one result to the next, in elements; a number, or one for H and one for W.
        padding: how many zeros to put on both sides; a number, or one for H and one for W.

    Returns:
        (N, O, (H + 2 padding - KH) // stride + 1, and the same for W), in the dtype to which NumPy promotes those of x
        and weight.

    Raises:
        ValueError: another number of axes, C differs, a kernel larger than x, a bias that does not fit, a stride
            below 1, or a negative padding.
    """
    _check("conv2d", x, weight, axes=4)
    steps = _steps("conv2d", stride, 2)
    if padding:
        x = Pad(_border("conv2d", padding, 2), 0.0)(x)
    return Conv(steps)(x, weight, bias)


class MaxOfWindow(Function):
    def forward(self, windows: Array) -> Array:
        self.shape_in = windows.shape
        n, channels, height, width, *outs = windows.shape
        lines = windows.reshape(n, channels, height * width, *outs)
        best = lines.argmax(axis=2, keepdims=True)
        self.is_best = best == get_array_module(best).arange(height * width).reshape(-1, 1, 1)
        return np.take_along_axis(lines, best, 2)[:, :, 0]

    def backward(self, gy: Gradient) -> Gradient:
        n, channels, *outs = gy.shape
        return chosen(gy.reshape(n, channels, 1, *outs), self.is_best).reshape(self.shape_in)


def max_pool2d(x: Any, kernel: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """The largest element of every window; the first of equal ones gets the gradient, as in PyTorch.

    Args:
        x: (N, C, H, W), array or Variable; of a floating dtype where there is padding.
        kernel: the size of a window, in elements; a number, or one for H and one for W.
        stride: how far it moves; by default its size, so that windows do not overlap.
        padding: how many -inf to put on both sides.

    Returns:
        (N, C, (H + 2 padding - KH) // stride + 1, and the same for W), of the dtype of x.

    Raises:
        ValueError: another number of axes, a window larger than x, a stride below 1, or a padding that is negative or
            more than half a window.
    """
    steps = _steps("max_pool2d", kernel if stride is None else stride, 2)
    if padding:
        least = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -math.inf
        x = Pad(_border("max_pool2d", padding, 2, kernel), least)(x)
    return MaxOfWindow()(Windows(_each(kernel, 2), steps)(x))


def avg_pool2d(x: Any, kernel: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """The mean of every window; zeros that were put around count as elements, as in PyTorch.

    Args:
        x: (N, C, H, W), array or Variable.
        kernel: the size of a window, in elements; a number, or one for H and one for W.
        stride: how far it moves; by default its size, so that windows do not overlap.
        padding: how many zeros to put on both sides.

    Returns:
        (N, C, (H + 2 padding - KH) // stride + 1, and the same for W), of the dtype of x (float64 for integers).

    Raises:
        ValueError: another number of axes, a window larger than x, a stride below 1, or a padding that is negative or
            more than half a window.
    """
    steps = _steps("avg_pool2d", kernel if stride is None else stride, 2)
    if padding:
        x = Pad(_border("avg_pool2d", padding, 2, kernel), 0.0)(x)
    return Mean(axis=(2, 3))(Windows(_each(kernel, 2), steps)(x))


def _check(name: str, x: Any, weight: Any, axes: int) -> None:
    if x.ndim != axes or weight.ndim != axes or x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"{name}: x must be (N, C, …) and weight (O, C, …), with {axes} axes and the same C, "
            f"not {x.shape} and {weight.shape}"
        )


def _border(name: str, padding: Size, axes: int, kernel: Size | None = None) -> list[list[int]]:
    """The widths for `pad`: none around N and C. Of a pool, no window may lie in the border alone."""
    widths = _each(padding, axes)
    if min(widths) < 0:
        raise ValueError(f"{name}: padding must not be negative, but is {padding}")
    if kernel is not None and any(2 * n > size for n, size in zip(widths, _each(kernel, axes), strict=True)):
        raise ValueError(f"{name}: padding must be at most half of the window {kernel}, but is {padding}")
    return [[0, 0], [0, 0], *([n, n] for n in widths)]


def _steps(name: str, stride: Size, axes: int) -> tuple[int, ...]:
    """The stride along each axis."""
    steps = _each(stride, axes)
    if min(steps) < 1:
        raise ValueError(f"{name}: stride must be at least 1, but is {stride}")
    return steps


def _each(size: Size, axes: int) -> tuple[int, ...]:
    return tuple(np.broadcast_to(size, axes).tolist())
