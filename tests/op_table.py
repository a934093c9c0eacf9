"""One row for each operation: its NumPy twin, and a strategy for the arguments that it is tested with.

Arguments are float64 arrays that gradients flow to (`Case.arrays`) and everything else (`Case.options`). Their values
come from a drawn seed, so that hypothesis spends its choices on what breaks gradients: shapes, axes, indices and memory
layouts. Values stay away from kinks and poles by construction.
"""

import tinygrad_nlp  # noqa: F401, I001
from tinygrad_nlp.autograd import ops

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.special
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


@dataclass(frozen=True)
class Case:
    """The arguments of one call: `op(*arrays, **options)`."""

    arrays: tuple[np.ndarray, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """An operation, what NumPy computes for the same arguments, and the arguments to try."""

    name: str
    op: Callable[..., Any]
    twin: Callable[..., Any]
    cases: st.SearchStrategy[Case]
    keeps_dtype: bool = True


# --- values -----------------------------------------------------------------------------------------------------------


def ordinary(rng, size):
    return rng.uniform(-2, 2, size)


def positive(rng, size):
    return rng.uniform(0.2, 2, size)


def off_zero(rng, size):
    return rng.uniform(0.2, 2, size) * rng.choice([-1, 1], size)


def distinct(rng, size):
    """Multiples of 1/4, each once."""
    return (rng.permutation(size) - size // 2) / 4


def distinct_and_shifted(rng, size):
    """Different from each other and from every value of `distinct`."""
    return distinct(rng, size) + 0.125


# --- arrays -----------------------------------------------------------------------------------------------------------

LAYOUTS = ("C", "Fortran", "backwards", "gaps")


def lay_out(x, layout):
    """The same values in another order of memory."""
    if layout == "Fortran":
        return x.copy(order="F")
    if layout == "backwards":  # negative strides
        return np.asarray(np.flip(np.flip(x).copy()))
    if layout == "gaps" and x.ndim:  # every second element of a larger array
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]))
        wide[..., ::2] = x
        return wide[..., ::2]
    return x.copy()


def arrays(shape, values=ordinary):
    def make(seed, layout):
        size = math.prod(shape)
        return lay_out(values(np.random.default_rng(seed), size).astype(float).reshape(shape), layout)

    return st.builds(make, st.integers(0, 2**16), st.sampled_from(LAYOUTS))


# Numbers, nothing at all, and axes of size 1 are where gradients go wrong: they come up more often than by chance.
SHAPES = st.sampled_from([(), (0,), (1,), (2, 0, 3), (3, 1, 2), (2, 3)]) | hnp.array_shapes(
    min_dims=0, max_dims=3, min_side=0, max_side=3
)
SHAPES_WITH_AXES = SHAPES.filter(len)


def broadcastable(count):
    return hnp.mutually_broadcastable_shapes(num_shapes=count, min_dims=0, max_dims=3, min_side=0, max_side=3)


def axis_of(shape):
    return st.integers(-len(shape), len(shape) - 1)


def axes_of(shape):
    """None, one axis, or several."""
    if not shape:
        return st.sampled_from([None, ()])
    several = st.lists(st.integers(0, len(shape) - 1), unique=True).map(tuple)
    return st.none() | axis_of(shape) | several


# --- cases ------------------------------------------------------------------------------------------------------------


@st.composite
def unary(draw, values=ordinary, shapes=SHAPES):
    return Case((draw(arrays(draw(shapes), values)),))


@st.composite
def binary(draw, values_a=ordinary, values_b=ordinary):
    a, b = draw(broadcastable(2)).input_shapes
    return Case((draw(arrays(a, values_a)), draw(arrays(b, values_b))))


@st.composite
def integer_powers(draw):
    return Case((draw(arrays(draw(SHAPES), off_zero)),), {"b": draw(st.sampled_from([-1, 0, 1, 2, 3, 2.0]))})


@st.composite
def choices(draw):
    a, b, condition = draw(broadcastable(3)).input_shapes
    mask = draw(hnp.arrays(bool, condition))
    return Case((draw(arrays(a)), draw(arrays(b))), {"condition": mask})


@st.composite
def reductions(draw, values=ordinary, of_nothing=False):
    """An array, and the axes to reduce; `of_nothing` where a reduction of no elements has a value."""
    shape = draw(SHAPES)
    axis = draw(axes_of(shape))
    reduced = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    assume(of_nothing or all(shape[i] for i in reduced))
    return Case((draw(arrays(shape, values)),), {"axis": axis, "keepdims": draw(st.booleans())})


@st.composite
def along_an_axis(draw, of_nothing=False):
    shape = draw(SHAPES_WITH_AXES)
    axis = draw(axis_of(shape))
    assume(of_nothing or shape[axis])
    return Case((draw(arrays(shape)),), {"axis": axis})


@st.composite
def matrix_products(draw):
    shapes = draw(
        hnp.mutually_broadcastable_shapes(
            signature="(n?,k),(k,m?)->(n?,m?)", min_dims=0, max_dims=2, min_side=0, max_side=3
        )
    )
    a, b = shapes.input_shapes
    return Case((draw(arrays(a)), draw(arrays(b))))


@st.composite
def affine_maps(draw):
    batch = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    n_in, n_out = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    x, weight = draw(arrays((*batch, n_in))), draw(arrays((n_out, n_in)))
    return Case((x, weight, draw(arrays((n_out,)))) if draw(st.booleans()) else (x, weight))


@st.composite
def indices(draw, shape):
    """Whatever NumPy takes in brackets, integers that name an element twice among them."""
    kind = draw(st.sampled_from(["basic", "mask", "integers", "sequence", "all axes", "integers between slices"]))
    assume(kind in ("basic", "mask") or (shape and all(shape)))
    if kind == "basic":
        return draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    if kind == "mask":
        return draw(hnp.arrays(bool, shape))
    ids = [hnp.arrays(np.int64, (draw(st.integers(0, 4)),), elements=axis_of(range(size))) for size in shape]
    if kind == "integers":
        return draw(ids[0])
    if kind == "sequence":
        return draw(st.lists(axis_of(range(shape[0])), min_size=1, max_size=4))
    if kind == "all axes":
        count = draw(st.integers(1, 4))
        same = [draw(hnp.arrays(np.int64, (count,), elements=axis_of(range(size)))) for size in shape]
        return tuple(same) if draw(st.booleans()) else tuple(tuple(i.tolist()) for i in same)
    return (..., draw(ids[-1]))


@st.composite
def look_ups(draw):
    shape = draw(SHAPES)
    return Case((draw(arrays(shape)),), {"index": draw(indices(shape))})


@st.composite
def scatters(draw):
    shape = draw(SHAPES)
    index = draw(indices(shape))
    return Case((draw(arrays(np.zeros(shape)[index].shape)),), {"index": index, "shape": shape})


@st.composite
def embeddings(draw):
    size, width = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    ids = draw(
        hnp.arrays(
            np.int64,
            hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4),
            elements=st.integers(0, size - 1),
        )
    )
    return Case((draw(arrays((size, width))),), {"ids": ids})


@st.composite
def reshapes(draw):
    shape = draw(SHAPES)
    return Case(
        (draw(arrays(shape)),), {"shape": draw(st.sampled_from([(-1,), shape[::-1], (1, *shape), (*shape, 1)]))}
    )


@st.composite
def transposes(draw):
    shape = draw(SHAPES)
    axes = draw(st.none() | st.permutations([axis - len(shape) * draw(st.booleans()) for axis in range(len(shape))]))
    return Case((draw(arrays(shape)),), {"axes": axes if axes is None else tuple(axes)})


@st.composite
def axis_swaps(draw):
    shape = draw(SHAPES_WITH_AXES)
    return Case((draw(arrays(shape)),), {"a": draw(axis_of(shape)), "b": draw(axis_of(shape))})


@st.composite
def new_axes(draw):
    shape = draw(SHAPES)
    return Case((draw(arrays(shape)),), {"axis": draw(axis_of((*shape, 1)))})


@st.composite
def squeezes(draw):
    shape = list(draw(SHAPES))
    axis = draw(st.integers(0, len(shape)))
    shape.insert(axis, 1)
    axis -= len(shape) * draw(st.booleans())
    return Case((draw(arrays(tuple(shape))),), {"axis": draw(st.sampled_from([None, axis]))})


@st.composite
def broadcasts(draw):
    shapes = draw(broadcastable(2))
    return Case((draw(arrays(shapes.input_shapes[0])),), {"shape": shapes.result_shape})


@st.composite
def joins(draw, same_size):
    shape = list(draw(SHAPES_WITH_AXES))
    axis = draw(axis_of(shape))
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        if not same_size:
            shape[axis] = draw(st.integers(0, 3))
        parts.append(draw(arrays(tuple(shape))))
    return Case(tuple(parts), {"axis": axis})


@st.composite
def cuts(draw):
    shape = draw(SHAPES_WITH_AXES)
    axis = draw(axis_of(shape))
    at = st.lists(st.integers(0, shape[axis]), max_size=3).map(sorted)
    equal = st.sampled_from([n for n in (1, 2, 3) if shape[axis] % n == 0])
    return Case((draw(arrays(shape)),), {"sections": draw(at | equal), "axis": axis})


# --- twins that NumPy has under another name --------------------------------------------------------------------------


def add_at(values, index, shape):
    out = np.zeros(shape, values.dtype)
    np.add.at(out, index, values)
    return out


def log_sum_exp(x, axis, keepdims):
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def affine(x, weight, bias=0.0):
    return x @ weight.T + bias


ROWS = [
    Row("abs", ops.abs, np.abs, unary(off_zero)),
    Row("add", ops.add, np.add, binary()),
    Row("astype", ops.astype, np.asarray, unary().map(lambda c: Case(c.arrays, {"dtype": float})), False),
    Row("broadcast_to", ops.broadcast_to, np.broadcast_to, broadcasts()),
    Row("concatenate", lambda *xs, axis: ops.concatenate(xs, axis), lambda *xs, axis: np.concatenate(xs, axis),
        joins(same_size=False)),
    Row("div", ops.div, np.divide, binary(values_b=off_zero)),
    Row("embedding", lambda weight, ids: ops.embedding(ids, weight), lambda weight, ids: weight[ids], embeddings()),
    Row("exp", ops.exp, np.exp, unary()),
    Row("expand_dims", ops.expand_dims, np.expand_dims, new_axes()),
    Row("flip", ops.flip, np.flip, along_an_axis(of_nothing=True)),
    Row("getitem", ops.getitem, lambda x, index: x[index], look_ups()),
    Row("linear", ops.linear, affine, affine_maps()),
    Row("log", ops.log, np.log, unary(positive)),
    Row("log_softmax", ops.log_softmax, scipy.special.log_softmax, along_an_axis()),
    Row("logsumexp", ops.logsumexp, log_sum_exp, reductions()),
    Row("matmul", ops.matmul, np.matmul, matrix_products()),
    Row("max", ops.max, np.max, reductions(distinct)),
    Row("maximum", ops.maximum, np.maximum, binary(distinct, distinct_and_shifted)),
    Row("mean", ops.mean, np.mean, reductions()),
    Row("min", ops.min, np.min, reductions(distinct)),
    Row("minimum", ops.minimum, np.minimum, binary(distinct, distinct_and_shifted)),
    Row("mul", ops.mul, np.multiply, binary()),
    Row("neg", ops.neg, np.negative, unary()),
    Row("pow", ops.pow, lambda a, b: a**b, binary(values_a=positive) | integer_powers()),
    Row("put", ops.put, add_at, scatters()),
    Row("relu", ops.relu, lambda x: np.maximum(x, 0), unary(off_zero)),
    Row("reshape", lambda x, shape: ops.reshape(x, shape), np.reshape, reshapes()),
    Row("sigmoid", ops.sigmoid, scipy.special.expit, unary(shapes=SHAPES | st.just((30, 30)))),  # small and large
    Row("softmax", ops.softmax, scipy.special.softmax, along_an_axis()),
    Row("split", ops.split, lambda x, sections, axis: tuple(np.split(x, sections, axis)), cuts()),
    Row("sqrt", ops.sqrt, np.sqrt, unary(positive)),
    Row("squeeze", ops.squeeze, np.squeeze, squeezes()),
    Row("stack", lambda *xs, axis: ops.stack(xs, axis), lambda *xs, axis: np.stack(xs, axis), joins(same_size=True)),
    Row("sub", ops.sub, np.subtract, binary()),
    Row("sum", ops.sum, np.sum, reductions(of_nothing=True)),
    Row("swapaxes", ops.swapaxes, lambda x, a, b: np.swapaxes(x, a, b), axis_swaps()),
    Row("tanh", ops.tanh, np.tanh, unary()),
    Row("transpose", lambda x, axes: ops.transpose(x, axes), np.transpose, transposes()),
    Row("unstack", ops.unstack, lambda x, axis: tuple(np.moveaxis(x, axis, 0)), along_an_axis(of_nothing=True)),
    Row("where", lambda a, b, condition: ops.where(condition, a, b), lambda a, b, condition: np.where(condition, a, b),
        choices()),
]  # fmt: skip
