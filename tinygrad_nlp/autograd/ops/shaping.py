"""Operations that move elements and compute nothing: shapes, axes, joining and taking apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ...backend import Array, device_of, get_array_module, to_device
from ..engine import Gradient
from ..function import Function


class Reshape(Function):
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.to = shape

    def forward(self, x: Array) -> Array:
        self.shape_in = x.shape
        return x.reshape(self.to)

    def backward(self, gy: Gradient) -> Gradient:
        return gy.reshape(self.shape_in)


def reshape(x: Any, *shape: Any) -> Any:
    """x with another shape; one size may be -1. A view where NumPy makes one."""
    return Reshape(tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape)(x)


class Transpose(Function):
    def __init__(self, axes: tuple[int, ...] | None) -> None:
        self.axes = axes

    def forward(self, x: Array) -> Array:
        return x.transpose(self.axes)

    def backward(self, gy: Gradient) -> Gradient:
        if self.axes is None:
            return gy.transpose()
        return gy.transpose(tuple(np.argsort([axis % gy.ndim for axis in self.axes]).tolist()))


def transpose(x: Any, *axes: Any) -> Any:
    """x with its axes in the order `axes` (reversed by default). A view."""
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], tuple | list)):
        (axes,) = axes
    return Transpose(tuple(axes) if axes else None)(x)


class Swapaxes(Function):
    def __init__(self, a: int, b: int) -> None:
        self.axes = a, b

    def forward(self, x: Array) -> Array:
        return x.swapaxes(*self.axes)

    def backward(self, gy: Gradient) -> Gradient:
        return gy.swapaxes(*self.axes)


def swapaxes(x: Any, a: int, b: int) -> Any:
    """x with two axes exchanged. A view."""
    return Swapaxes(a, b)(x)


def moveaxis(x: Any, source: int | tuple[int, ...], destination: int | tuple[int, ...]) -> Any:
    """x with the axes `source` moved to the places `destination`, and the others in their old order. A view."""
    source = normalize_axis_tuple(source, x.ndim, "source")
    destination = normalize_axis_tuple(destination, x.ndim, "destination")
    order = [axis for axis in range(x.ndim) if axis not in source]
    for to, axis in sorted(zip(destination, source, strict=True)):
        order.insert(to, axis)
    return Transpose(tuple(order))(x)


def expand_dims(x: Any, axis: int) -> Any:
    """x with a new axis of size 1 at `axis`."""
    axis = normalize_axis_index(axis, x.ndim + 1)
    return Reshape((*x.shape[:axis], 1, *x.shape[axis:]))(x)


def squeeze(x: Any, axis: int | None = None) -> Any:
    """x without its axes of size 1, or without that one.

    Raises:
        ValueError: that axis is not there, or of another size.
    """
    if axis is None:
        return Reshape(tuple(size for size in x.shape if size != 1))(x)
    if not -x.ndim <= axis < x.ndim or x.shape[axis] != 1:
        raise ValueError(f"squeeze: shape {x.shape} has no axis {axis} of size 1")
    axis = axis % x.ndim
    return Reshape(x.shape[:axis] + x.shape[axis + 1 :])(x)


class BroadcastTo(Function):
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.to = shape

    def forward(self, x: Array) -> Array:
        return np.broadcast_to(x, self.to)

    def backward(self, gy: Gradient) -> Gradient:
        return gy  # the engine sums it up


def broadcast_to(x: Any, shape: tuple[int, ...]) -> Any:
    """x repeated to `shape` by NumPy's rules, without a copy: the array cannot be written to."""
    return BroadcastTo(shape)(x)


class Flip(Function):
    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Array) -> Array:
        return np.flip(x, self.axis)

    def backward(self, gy: Gradient) -> Gradient:
        return flip(gy, self.axis)


def flip(x: Any, axis: int) -> Any:
    """x backwards along `axis`. A view."""
    return Flip(axis)(x)


class Roll(Function):
    def __init__(self, shift: Any, axis: Any) -> None:
        self.shift, self.axis = shift, axis

    def forward(self, x: Array) -> Array:
        return np.roll(x, self.shift, self.axis)

    def backward(self, gy: Gradient) -> Gradient:
        return roll(gy, [-n for n in self.shift] if isinstance(self.shift, Sequence) else -self.shift, self.axis)


def roll(x: Any, shift: int | Sequence[int], axis: int | tuple[int, ...] | None = None) -> Any:
    """x with every element moved on by `shift` along `axis`, the last ones to the front; by default as if flattened."""
    return Roll(shift, axis)(x)


class Pad(Function):
    def __init__(self, widths: list[list[int]], value: float) -> None:
        self.widths, self.value = widths, value

    def forward(self, x: Array) -> Array:
        self.inside = tuple(slice(before, before + n) for (before, _), n in zip(self.widths, x.shape, strict=True))
        shape = [before + n + after for (before, after), n in zip(self.widths, x.shape, strict=True)]
        y = get_array_module(x).full(shape, self.value, x.dtype)
        y[self.inside] = x
        return y

    def backward(self, gy: Gradient) -> Gradient:
        return gy[self.inside]


def pad(x: Any, widths: Any, value: float = 0.0) -> Any:
    """x with a border of `value`.

    Args:
        widths: how many elements to put (before, after) along each axis, as NumPy's `pad_width`: a pair for each axis,
            one pair for all, or one number.
        value: of the border.

    Raises:
        ValueError: a width is negative.
    """
    pairs = np.broadcast_to(widths, (x.ndim, 2))
    if (pairs < 0).any():
        raise ValueError(f"pad: widths must not be negative, not {widths}; use a slice to cut")
    return Pad(pairs.tolist(), value)(x)


class Tile(Function):
    def __init__(self, times: tuple[int, ...]) -> None:
        self.times = times

    def forward(self, x: Array) -> Array:
        self.shape_in = x.shape
        return np.tile(x, self.times)

    def backward(self, gy: Gradient) -> Gradient:
        ndim = max(len(self.times), len(self.shape_in))
        times = (1,) * (ndim - len(self.times)) + self.times
        sizes = (1,) * (ndim - len(self.shape_in)) + self.shape_in
        copies = gy.reshape([n for pair in zip(times, sizes, strict=True) for n in pair])  # (times, size, times, …)
        return copies.sum(axis=tuple(range(0, 2 * ndim, 2))).reshape(self.shape_in)


def tile(x: Any, times: int | Sequence[int]) -> Any:
    """x laid side by side: `times` along each axis; a shorter `times`, or x, gets ones in front as in NumPy."""
    return Tile(tuple(np.atleast_1d(times).tolist()))(x)


class Concatenate(Function):
    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, *xs: Array) -> Array:
        self.ends = np.cumsum([x.shape[self.axis] for x in xs])[:-1].tolist()
        return np.concatenate(xs, self.axis)

    def backward(self, gy: Gradient) -> Gradient:
        return split(gy, self.ends, self.axis)


def concatenate(xs: Sequence[Any], axis: int = 0) -> Any:
    """Join along an axis that is there."""
    return Concatenate(axis)(*xs)


class Split(Function):
    def __init__(self, ends: Sequence[int], axis: int) -> None:
        self.ends, self.axis = ends, axis

    def forward(self, x: Array) -> tuple[Array, ...]:
        return tuple(np.split(x, self.ends, self.axis))

    def backward(self, *gys: Gradient) -> Gradient:
        return concatenate(gys, self.axis)


def split(x: Any, sections: int | Sequence[int], axis: int = 0) -> tuple[Any, ...]:
    """Cut along an axis into `sections` equal parts, or at the indices `sections`. Views.

    Better than slices one by one: its backward joins the gradients once, where each slice would fill a whole array.

    Raises:
        ValueError: there is no such axis, or it does not make that many equal parts.
    """
    if isinstance(sections, int):
        size = _size(x, axis, "split")
        if sections < 1 or size % sections:
            raise ValueError(f"split: {size} elements do not make {sections} equal parts")
        sections = [size // sections * i for i in range(1, sections)]
    return Split(sections, axis)(x)


class Stack(Function):
    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, *xs: Array) -> Array:
        return np.stack(xs, self.axis)

    def backward(self, *gys: Gradient) -> Gradient:
        return unstack(gys[0], self.axis)


def stack(xs: Sequence[Any], axis: int = 0) -> Any:
    """Join arrays of one shape along a new axis."""
    return Stack(axis)(*xs)


class Unstack(Function):
    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Array) -> tuple[Array, ...]:
        return tuple(np.moveaxis(x, self.axis, 0))

    def backward(self, *gys: Gradient) -> Gradient:
        return stack(gys, self.axis)


def unstack(x: Any, axis: int = 0) -> tuple[Any, ...]:
    """The slices along an axis, without it: the way to go through time steps.

    `x[:, t]` for every t would make backward O(T²), as the gradient of each slice is a whole array of zeros.
    """
    return Unstack(axis)(x) if _size(x, axis, "unstack") else ()


class ToDevice(Function):
    def __init__(self, device: str) -> None:
        self.device = device

    def forward(self, x: Array) -> Array:
        self.device_in = device_of(x)
        return to_device(x, self.device)

    def backward(self, gy: Gradient) -> Gradient:
        return to(gy, self.device_in)


def to(x: Any, device: str) -> Any:
    """x on another device, "cpu", "cuda" or "cuda:1"; the gradient comes back. x itself where it lies there already."""
    where = device_of(getattr(x, "_data", x))
    return x if where in (device, f"{device}:0") else ToDevice(device)(x)


def _size(x: Any, axis: int, name: str) -> int:
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{name}: shape {x.shape} has no axis {axis}")
    return x.shape[axis]
