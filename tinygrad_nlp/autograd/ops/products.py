"""Products of matrices, and of arrays with any number of axes."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ... import products
from ...backend import Array, get_array_module
from ..engine import Gradient
from ..function import Function
from .elementwise import Mul
from .shaping import Reshape, broadcast_to, swapaxes


class Matmul(Function):
    saves_inputs = True
    needs = ((1,), (0,))

    def forward(self, a: Array, b: Array) -> Array:
        if a.ndim > 2 and b.ndim == 2 and a.size:  # one large product instead of many small ones
            return products.matmul(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
        return products.matmul(a, b)

    def backward(self, gy: Gradient) -> Gradient:
        a, b = self.inputs
        to_a, to_b = self.edges
        # A vector is a matrix of one row (on the left) or of one column (on the right) whose extra axis is dropped.
        if b.ndim == 1:
            gy, b = gy.reshape(*gy.shape, 1), b.reshape(-1, 1)
        if a.ndim == 1:
            gy, a = gy.reshape(*gy.shape[:-1], 1, gy.shape[-1]), a.reshape(1, -1)
        ga = gb = None
        if to_a is not None:
            ga = products.matmul(gy, b.swapaxes(-1, -2))
            ga = ga.reshape(*ga.shape[:-2], ga.shape[-1]) if len(to_a.shape) == 1 else ga
        if to_b is not None:
            if a.ndim > 2 and b.ndim == 2 and a.size and gy.size:
                gb = products.matmul(a.reshape(-1, a.shape[-1]).swapaxes(0, 1), gy.reshape(-1, gy.shape[-1]))
            else:
                gb = products.matmul(a.swapaxes(-1, -2), gy)
            gb = gb.reshape(gb.shape[:-1]) if len(to_b.shape) == 1 else gb
        return ga, gb


def matmul(a: Any, b: Any) -> Any:
    """a @ b for every rank, as `numpy.matmul`: the MatMul node of *Deep Learning from Scratch 2* (ch. 1).

    Backward is gy bᵀ and aᵀ gy, summed over leading axes that were broadcast.

    Args:
        a: (…, n, k) or (k,), array or Variable.
        b: (…, k, m) or (k,); the leading axes broadcast.

    Returns:
        (…, n, m), without n or m where a or b is a vector; in the dtype to which NumPy promotes theirs.

    Raises:
        ValueError: k differs, leading axes do not broadcast, or one of them is a number.
    """
    return Matmul()(a, b)


def rmatmul(b: Any, a: Any) -> Any:
    """a @ b, as b.__rmatmul__(a): the operator where only its right side is a Variable.

    Args:
        b, a: as for `matmul`, the other way round.

    Returns:
        As `matmul`.
    """
    return Matmul()(a, b)


class Linear(Function):
    saves_inputs = True
    needs = ((1,), (0,), ())

    def forward(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        y = products.matmul(_matrix(x), weight.T)
        if bias is not None:
            y += bias
        return y.reshape(*x.shape[:-1], len(weight))

    def definition(self, x: Any, weight: Any, bias: Any = None) -> Any:
        """The same in plain operations: what a drawing opens."""
        y = matmul(x, swapaxes(weight, 0, 1))
        return y if bias is None else y + bias

    def backward(self, gy: Gradient) -> Gradient:
        x, weight, *_ = self.inputs
        to_x, to_weight, *to_bias = self.edges
        rows = _matrix(gy)
        gx = None if to_x is None else products.matmul(rows, weight)
        if gx is not None and x.ndim != 2:
            gx = gx.reshape(x.shape)
        gw = None if to_weight is None else products.matmul(rows.transpose(), _matrix(x))
        gb = rows.sum(axis=0) if to_bias and to_bias[0] is not None else None
        return gx, gw, gb


def _matrix(x: Any) -> Any:
    """(…, n) as a matrix; x itself where it is one, as every node of a graph costs some microseconds."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # -1 for 0 elements is anything


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x Wᵀ + b, the affine map of a layer, as one operation; as PyTorch's `functional.linear`.

    `nn.functional.linear` is the same with the argument named where shapes do not fit.

    Args:
        x: (…, in), array or Variable, with at least one axis.
        weight: (out, in), as in PyTorch.
        bias: (out,) or None.

    Returns:
        (…, out), in the dtype to which NumPy promotes those of x and weight.

    Raises:
        ValueError: shapes that do not fit.
        IndexError: x is a number.
    """
    return Linear()(x, weight, bias)


def dot(a: Any, b: Any) -> Any:
    """Σ a b over the last axis of a and the last but one of b (the only one of a vector), as `numpy.dot`.

    Args:
        a: (…A, K), array or Variable.
        b: (…B, K, M) or (K,), array or Variable.

    Returns:
        (…A, …B, M) or (…A): for two vectors a number, for two matrices their product, with a 0-d array a multiple.
        Of the dtype to which NumPy promotes theirs.

    Raises:
        ValueError: K differs.
    """
    if min(a.ndim, b.ndim) == 0:
        return Mul()(a, b)
    if max(a.ndim, b.ndim) <= 2:
        return Matmul()(a, b)
    return Tensordot((a.ndim - 1,), (max(b.ndim - 2, 0),))(a, b)


def outer(a: Any, b: Any) -> Any:
    """All products a[i] b[j], as `numpy.outer`.

    Args:
        a: (N,), array or Variable; other shapes are flattened.
        b: (M,), in the same way.

    Returns:
        (N, M), in the dtype to which NumPy promotes theirs.
    """
    return Mul()(Reshape((-1, 1))(a), Reshape((1, -1))(b))


class Tensordot(Function):
    saves_inputs = True

    def __init__(self, axes_a: tuple[int, ...], axes_b: tuple[int, ...]) -> None:
        self.axes = axes_a, axes_b

    def forward(self, a: Array, b: Array) -> Array:
        return np.tensordot(a, b, self.axes)

    def backward(self, gy: Gradient) -> Gradient:
        a, b = self.inputs
        to_a, to_b = self.edges
        axes_a, axes_b = self.axes
        free_a = [axis for axis in range(a.ndim) if axis not in axes_a]
        free_b = [axis for axis in range(b.ndim) if axis not in axes_b]
        from_a, from_b = list(range(len(free_a))), list(range(len(free_a), gy.ndim))  # the axes of gy
        ga = gb = None
        if to_a is not None:  # what is left of b are its summed axes, in their order there
            order = [*free_a, *(axis for _, axis in sorted(zip(axes_b, axes_a, strict=True)))]
            ga = tensordot(gy, b, (from_b, free_b)).transpose(np.argsort(order).tolist())
        if to_b is not None:
            order = [*(axis for _, axis in sorted(zip(axes_a, axes_b, strict=True))), *free_b]
            gb = tensordot(a, gy, (free_a, from_a)).transpose(np.argsort(order).tolist())
        return ga, gb


def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """Σ a b over `axes`, as one matrix product, as `numpy.tensordot`.

    Args:
        a, b: arrays or Variables, of any shapes.
        axes: the axes of a and those of b to sum over, in pairs: ([1, 2], [2, 0]), or (1, 2) for one pair; or a number
            n, for the last n of a and the first n of b.

    Returns:
        The axes of a that are left, then those of b; in the dtype to which NumPy promotes theirs.

    Raises:
        ValueError: two axes of a pair have different sizes, an axis comes twice, or there are not as many of each.
        AxisError: there is no such axis.
    """
    if isinstance(axes, int):
        axes = tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes))
    return Tensordot(normalize_axis_tuple(axes[0], a.ndim), normalize_axis_tuple(axes[1], b.ndim))(a, b)


class Einsum(Function):
    saves_inputs = True

    def __init__(self, terms: Sequence[str], output: str) -> None:
        self.terms, self.to = terms, output

    def forward(self, *xs: Array) -> Array:
        return np.einsum(f"{','.join(self.terms)}->{self.to}", *xs, optimize=len(xs) > 1)  # so that BLAS is used

    def backward(self, gy: Gradient) -> Gradient:
        return tuple(
            None if edge is None else self.gradient(gy, position, edge.shape)
            for position, edge in enumerate(self.edges)
        )

    def gradient(self, gy: Gradient, position: int, shape: tuple[int, ...]) -> Gradient:
        """Of one operand: the product of all the others with gy, summed over the indices that it does not have."""
        terms = [self.to, *self.terms[:position], *self.terms[position + 1 :]]
        factors = [gy, *self.inputs[:position], *self.inputs[position + 1 :]]
        unused = (letter for letter in string.ascii_letters if letter not in "".join(self.terms))
        own = ""
        for letter, size in zip(self.terms[position], shape, strict=True):
            if letter in own:  # twice in one operand is its diagonal, where a unit matrix puts the gradient back
                terms.append(letter + (twin := next(unused)))
                factors.append(get_array_module(getattr(gy, "_data", gy)).eye(size, dtype=gy.dtype))
                letter = twin
            own += letter
        present = set().union(*terms)
        g = einsum(f"{','.join(terms)}->{''.join(letter for letter in own if letter in present)}", *factors)
        # An index that nobody else has was summed over: its gradient is the same for all.
        sizes = iter(g.shape)
        g = g.reshape([next(sizes) if letter in present else 1 for letter in own])
        return broadcast_to(g, np.broadcast_shapes(g.shape, shape))


def einsum(subscripts: str, *operands: Any) -> Any:
    """Einstein's sum: the product of the operands, over all indices, summed over those that the result does not name.

    Args:
        subscripts: a letter for each axis: "ij,jk->ik" is a matrix product, "ii->" a trace, "bhqd,bhkd->bhqk" the
            scores of attention. "..." stands for any axes, which broadcast. Without "->" the result has the letters
            that occur once, in the order of the alphabet, after those of "...". As in `numpy.einsum`.
        *operands: arrays or Variables.

    Returns:
        The axes that stand behind "->"; in the dtype to which NumPy promotes those of the operands.

    Raises:
        ValueError: the subscripts do not fit the operands.
        TypeError: the subscripts are no string.
    """
    if not isinstance(subscripts, str):
        raise TypeError(f'einsum: the subscripts must be a string such as "ij,jk->ik", not {type(subscripts).__name__}')
    left, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"einsum: {subscripts!r} is for {len(terms)} operands, not for {len(operands)}")
    # Letters take the place of "...", the last axis of each operand getting the last of them.
    unused = [letter for letter in string.ascii_letters if letter not in subscripts]
    pairs = zip(terms, operands, strict=True)
    widths = [x.ndim - len(term.replace("...", "")) if "..." in term else 0 for term, x in pairs]
    if min(widths) < 0:
        raise ValueError(f"einsum: {subscripts!r} has too many indices for shapes {[x.shape for x in operands]}")
    dots = "".join(unused[: max(widths)])
    terms = [term.replace("...", dots[len(dots) - width :]) for term, width in zip(terms, widths, strict=True)]
    if not arrow:
        output = "..." + "".join(sorted(letter for letter in set(left) - set(",.") if left.count(letter) == 1))
    return Einsum(terms, output.replace("...", dots))(*operands)
