"""Operations that move elements and compute nothing: shapes, axes, joining and taking apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ...backend import Array, device_of, get_array_module, lies_on, to_device
from ..engine import Gradient
from ..function import Function
from ..variable import Variable


class Reshape(Function):
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.to = shape

    def forward(self, x: Array) -> Array:
        self.shape_in = x.shape
        return x.reshape(self.to)

    def backward(self, gy: Gradient) -> Gradient:
        return gy.reshape(self.shape_in)


def reshape(x: Any, *shape: Any) -> Any:
    """x with another shape and the same elements in the same order, as `numpy.reshape`. A view where NumPy makes one.

    Args:
        x: array or Variable, of any shape.
        *shape: sizes, or one tuple of them; one may be -1, which is what is left.

    Returns:
        Of that shape and the dtype of x.

    Raises:
        ValueError: the sizes do not hold as many elements as x has, or two of them are -1.
    """
    return Reshape(tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape)(x)


def flatten(x: Any) -> Any:
    """All elements in one axis, as `numpy.ndarray.flatten` and `numpy.ravel`. A view where NumPy makes one.

    Args:
        x: array or Variable, of any shape.

    Returns:
        (x.size,), of the dtype of x.
    """
    return Reshape((-1,))(x)


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
    """x with its axes in another order, as `numpy.transpose`. A view.

    Args:
        x: array or Variable, of any shape.
        *axes: which axis of x comes first, second, …: integers, or one tuple of them; all in reverse by default.

    Returns:
        Of the dtype of x; axis i has the size that axis `axes[i]` of x has.

    Raises:
        ValueError: not as many axes as x has, or one of them twice.
        AxisError: there is no such axis.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> tn.transpose(np.zeros((2, 3, 4)), 0, 2, 1).shape
        (2, 4, 3)
    """
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
    """x with two axes exchanged, as `numpy.swapaxes`. A view.

    Args:
        x: array or Variable, of any shape.
        a, b: the axes.

    Returns:
        Of the dtype of x, with the sizes of those axes exchanged.

    Raises:
        AxisError: there is no such axis.
    """
    return Swapaxes(a, b)(x)


def moveaxis(x: Any, source: int | tuple[int, ...], destination: int | tuple[int, ...]) -> Any:
    """x with some axes moved to other places and the rest in their old order, as `numpy.moveaxis`. A view.

    Args:
        x: array or Variable, of any shape.
        source: an axis of x, or a tuple of them.
        destination: where each of them shall be in the result.

    Returns:
        Of the dtype of x.

    Raises:
        AxisError: there is no such axis.
        ValueError: an axis comes twice, or there are not as many destinations as sources.
    """
    source = normalize_axis_tuple(source, x.ndim, "source")
    destination = normalize_axis_tuple(destination, x.ndim, "destination")
    order = [axis for axis in range(x.ndim) if axis not in source]
    for to, axis in sorted(zip(destination, source, strict=True)):
        order.insert(to, axis)
    return Transpose(tuple(order))(x)


def expand_dims(x: Any, axis: int | tuple[int, ...]) -> Any:
    """x with new axes of size 1, as `numpy.expand_dims`. A view.

    Args:
        x: array or Variable, of any shape.
        axis: the place of a new axis in the result, or a tuple of them; -1 is the last.

    Returns:
        Of the dtype of x, with more axes.

    Raises:
        AxisError: the result has no such axis.
        ValueError: an axis comes twice.
    """
    ndim = x.ndim + (len(axis) if isinstance(axis, tuple) else 1)
    new = normalize_axis_tuple(axis, ndim)
    sizes = iter(x.shape)
    return Reshape(tuple(1 if i in new else next(sizes) for i in range(ndim)))(x)


def squeeze(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """x without its axes of size 1, or without those, as `numpy.squeeze`. A view.

    Args:
        x: array or Variable, of any shape.
        axis: the axis to drop, or a tuple of them; by default all of size 1.

    Returns:
        Of the dtype of x, with fewer axes.

    Raises:
        ValueError: an axis is not there, or of another size.
    """
    axes = axis if isinstance(axis, tuple) else (axis,)
    if axis is None:
        axes = tuple(i for i, size in enumerate(x.shape) if size == 1)
    for i in axes:
        if not -x.ndim <= i < x.ndim or x.shape[i] != 1:
            raise ValueError(f"squeeze: shape {x.shape} has no axis {i} of size 1")
    gone = {i % x.ndim for i in axes}
    return Reshape(tuple(size for i, size in enumerate(x.shape) if i not in gone))(x)


class BroadcastTo(Function):
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.to = shape

    def forward(self, x: Array) -> Array:
        return _repeated(x, self.to)

    def backward(self, gy: Gradient) -> Gradient:
        return gy  # the engine sums it up


def _repeated(x: Array, shape: tuple[int, ...]) -> Array:
    if type(x) is np.ndarray and x.ndim == 0:  # as behind each sum: 0.4 µs, where broadcast_to takes 2.3
        y = np.ndarray(shape, x.dtype, x, 0, (0,) * len(shape))  # by position: names cost 0.2 µs more
        y.setflags(write=False)
        return y
    return np.broadcast_to(x, shape)


def broadcast_to(x: Any, shape: tuple[int, ...]) -> Any:
    """x repeated to `shape` by NumPy's rules, without a copy, as `numpy.broadcast_to`.

    Backward sums over what was repeated (the repeat node of *Deep Learning from Scratch 2*, ch. 1).

    Args:
        x: array or Variable, of any shape.
        shape: sizes; the last ones are those of x, or x has 1 there.

    Returns:
        Of that shape and the dtype of x. Its array cannot be written to.

    Raises:
        ValueError: x does not broadcast to that shape.
    """
    if isinstance(x, Variable):
        return BroadcastTo(shape)(x)
    return _repeated(x, shape)  # behind each sum: 0.4 µs less than by way of the Function


class Flip(Function):
    def __init__(self, axis: int | tuple[int, ...] | None) -> None:
        self.axis = axis

    def forward(self, x: Array) -> Array:
        return np.flip(x, self.axis)

    def backward(self, gy: Gradient) -> Gradient:
        return flip(gy, self.axis)


def flip(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """x backwards along `axis`, as `numpy.flip`. A view.

    Args:
        x: array or Variable, of any shape.
        axis: an axis, or a tuple of them; all by default.

    Returns:
        Of the shape and dtype of x.

    Raises:
        AxisError: there is no such axis.
    """
    return Flip(axis)(x)


class Roll(Function):
    def __init__(self, shift: Any, axis: Any) -> None:
        self.shift, self.axis = shift, axis

    def forward(self, x: Array) -> Array:
        return np.roll(x, self.shift, self.axis)

    def backward(self, gy: Gradient) -> Gradient:
        return roll(gy, [-n for n in self.shift] if isinstance(self.shift, Sequence) else -self.shift, self.axis)


def roll(x: Any, shift: int | Sequence[int], axis: int | tuple[int, ...] | None = None) -> Any:
    """x with every element moved on along `axis`, the last ones to the front, as `numpy.roll`.

    Args:
        x: array or Variable, of any shape.
        shift: by how many places, negative for backwards; or one number for each of `axis`.
        axis: an axis, or a tuple of them; by default x is rolled as if it were flattened.

    Returns:
        Of the shape and dtype of x.

    Raises:
        AxisError: there is no such axis.
        ValueError: there are not as many shifts as axes.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> tn.roll(np.arange(5), 2)
        array([3, 4, 0, 1, 2])
    """
    return Roll(shift, axis)(x)


class Pad(Function):
    def __init__(self, widths: list[list[int]], value: float) -> None:
        self.widths, self.value = widths, value

    def forward(self, x: Array) -> Array:
        self.inside = tuple(slice(before, before + n) for (before, _), n in zip(self.widths, x.shape, strict=True))
        shape = [before + n + after for (before, after), n in zip(self.widths, x.shape, strict=True)]
        if x.dtype.kind in "biu" and not np.isfinite(self.value):
            raise ValueError(f"{x.dtype} has no {self.value} to pad with")
        y = get_array_module(x).full(shape, self.value, x.dtype)
        y[self.inside] = x
        return y

    def backward(self, gy: Gradient) -> Gradient:
        return gy[self.inside]


def pad(x: Any, widths: Any, value: float = 0.0) -> Any:
    """x with a border of `value`, as `numpy.pad` with `mode="constant"`.

    Args:
        x: array or Variable, of any shape.
        widths: how many elements to put (before, after) along each axis, as NumPy's `pad_width`: a pair for each axis,
            one pair for all, or one number.
        value: of the border; it is cast to the dtype of x.

    Returns:
        Of the dtype of x, each axis longer by its widths.

    Raises:
        ValueError: a width is negative, there are pairs for another number of axes, or the border of integers or of
            truth values is not finite.
        TypeError: a width is no integer.
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
    """x laid side by side, as `numpy.tile`. Backward sums over the copies.

    Args:
        x: array or Variable, of any shape.
        times: how often along each axis, or along the last one where it is a number; the shorter of `times` and the
            shape of x gets ones in front.

    Returns:
        Of the dtype of x, each axis `times` as long.

    Raises:
        ValueError: a number is negative.
        TypeError: a number is no integer.
    """
    return Tile(tuple(np.atleast_1d(times).tolist()))(x)


class Concatenate(Function):
    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, *xs: Array) -> Array:
        y = np.concatenate(xs, self.axis)
        self.ends = np.cumsum([x.shape[self.axis] for x in xs])[:-1].tolist()
        return y

    def backward(self, gy: Gradient) -> Gradient:
        return split(gy, self.ends, self.axis)


def concatenate(xs: Sequence[Any], axis: int = 0) -> Any:
    """Join along an axis that is there, as `numpy.concatenate`. Backward cuts the gradient into the parts again.

    Args:
        xs: arrays or Variables, of one shape but for `axis`.
        axis: along which; the first by default.

    Returns:
        As long as all of xs along `axis`; in the dtype to which NumPy promotes theirs.

    Raises:
        ValueError: there are no arrays, or other sizes differ too.
        AxisError: there is no such axis.
    """
    return Concatenate(axis)(*xs)


class Split(Function):
    def __init__(self, ends: Sequence[int], axis: int) -> None:
        self.ends, self.axis = ends, axis

    def forward(self, x: Array) -> tuple[Array, ...]:
        return tuple(np.split(x, self.ends, self.axis))

    def backward(self, *gys: Gradient) -> Gradient:
        return concatenate(gys, self.axis)


def split(x: Any, sections: int | Sequence[int], axis: int = 0) -> tuple[Any, ...]:
    """Cut along an axis into `sections` equal parts, or at the indices `sections`, as `numpy.split`.

    It is the slice node of *Deep Learning from Scratch 2* (fig. 6-23), which parts the gates of an LSTM: backward joins
    the gradients once, where each slice by itself would fill a whole array.

    Args:
        x: array or Variable, of any shape.
        sections: how many parts; or a list of the indices at which all parts but the first begin.
        axis: along which; the first by default.

    Returns:
        A tuple of the parts, views of the dtype of x; one that lies behind the end is empty.

    Raises:
        ValueError: the axis is not there, or does not make that many equal parts.
        IndexError: the axis is not there, for a list of indices.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> [part.shape for part in tn.split(np.zeros((2, 12)), 4, axis=1)]
        [(2, 3), (2, 3), (2, 3), (2, 3)]
    """
    if isinstance(sections, int | np.integer):
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
    """Join arrays along a new axis, as `numpy.stack`. Backward takes the gradient apart as `unstack` does.

    Args:
        xs: arrays or Variables, all of one shape.
        axis: the place of the new axis in the result; the first by default.

    Returns:
        As long as xs along `axis`; in the dtype to which NumPy promotes theirs.

    Raises:
        ValueError: there are no arrays, or their shapes differ.
        AxisError: the result has no such axis.
    """
    return Stack(axis)(*xs)


class Unstack(Function):
    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Array) -> tuple[Array, ...]:
        axis = self.axis % x.ndim
        return tuple(x.transpose(axis, *range(axis), *range(axis + 1, x.ndim)))  # np.moveaxis takes 3 µs longer

    def backward(self, *gys: Gradient) -> Gradient:
        return stack(gys, self.axis)


def unstack(x: Any, axis: int = 0) -> tuple[Any, ...]:
    """The slices along an axis, without it, as PyTorch's `unbind`: the way to go through time steps.

    `x[:, t]` for every t would make backward O(T²), as the gradient of each slice is a whole array of zeros.

    Args:
        x: array or Variable, of any shape with an axis.
        axis: along which; the first by default.

    Returns:
        A tuple of views of the dtype of x, as many as `axis` is long.

    Raises:
        ValueError: there is no such axis.
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
    """x on another device, as PyTorch's `Tensor.to`; the gradient comes back to where x lies.

    Args:
        x: array or Variable, of any shape.
        device: "cpu", "cuda" (the current GPU, see `tinygrad_nlp.cuda.device`) or "cuda:1".

    Returns:
        Of the shape and dtype of x; x itself where it lies there already.

    Raises:
        ValueError: `device` is none of these.
        RuntimeError: there is no usable GPU, or no CuPy.
    """
    return x if lies_on(getattr(x, "_data", x), device) else ToDevice(device)(x)


def _size(x: Any, axis: int, name: str) -> int:
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{name}: shape {x.shape} has no axis {axis}")
    return x.shape[axis]
