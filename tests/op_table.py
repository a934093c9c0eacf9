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
    differentiable: bool = True  # else it gives plain arrays, also of Variables


# --- values -----------------------------------------------------------------------------------------------------------


def ordinary(rng, size):
    return rng.uniform(-2, 2, size)


def positive(rng, size):
    return rng.uniform(0.2, 2, size)


def above_minus_one(rng, size):
    return rng.uniform(-0.8, 2, size)


def with_zeros(rng, size):
    return rng.uniform(-2, 2, size) * rng.choice([0, 1, 1], size)


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


def ids_within(size, shape):
    return hnp.arrays(np.int64, shape, elements=st.integers(-size, size - 1))


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
def bounds(draw):
    """No value lies on a bound: those are between the multiples of 1/4."""
    shape = draw(SHAPES)
    low, high = draw(st.sampled_from([(None, 0.4), (-0.6, None), (-0.6, 0.4), (np.full(shape, -0.1, np.float16), 0.9)]))
    return Case((draw(arrays(shape, distinct)),), {"min": low, "max": high})


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
def spreads(draw, fewest=1):
    """At least `fewest` elements along each axis, and more than `ddof`."""
    ddof = draw(st.sampled_from([0, 1]))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=max(fewest, ddof + 1), max_side=3))
    axis = draw(axes_of(shape).filter(lambda axis: axis != ()))
    return Case((draw(arrays(shape, distinct)),), {"axis": axis, "keepdims": draw(st.booleans()), "ddof": ddof})


@st.composite
def along_an_axis(draw, values=ordinary, of_nothing=False):
    shape = draw(SHAPES_WITH_AXES)
    axis = draw(axis_of(shape))
    assume(of_nothing or shape[axis])
    return Case((draw(arrays(shape, values)),), {"axis": axis})


@st.composite
def flattened(draw):
    return Case((draw(arrays(draw(SHAPES))),), {"axis": None})


@st.composite
def best_few(draw):
    case = draw(along_an_axis(distinct, of_nothing=True))
    return Case(case.arrays, case.options | {"k": draw(st.integers(0, case.arrays[0].shape[case.options["axis"]]))})


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
def dots(draw):
    k = draw(st.integers(0, 3))
    sizes = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)
    shape_a = draw(st.just(()) | sizes.map(lambda shape: (*shape, k)))
    shape_b = draw(st.sampled_from([(), (k,), (k, 2), (2, k, 3), (0, 2, k, 1)]))
    return Case((draw(arrays(shape_a)), draw(arrays(shape_b))))


@st.composite
def outer_products(draw):
    return Case((draw(arrays(draw(SHAPES))), draw(arrays(draw(SHAPES)))))


@st.composite
def contractions(draw):
    sizes = {axis: draw(st.integers(0, 3)) for axis in "abcde"}
    shape = lambda axes: tuple(sizes[axis] for axis in axes)  # noqa: E731
    axes_a, axes_b, axes = draw(
        st.sampled_from(
            [
                ("abc", "bcd", 2),
                ("ab", "c", 0),
                ("abc", "bda", ([0, 1], [-1, 0])),
                ("abc", "dcab", ((2, 0, 1), (1, 2, 3))),
                ("ab", "cb", (1, 1)),
                ("abcd", "dbe", ((1, 3), (1, 0))),
                ("", "ab", 0),
            ]
        )
    )
    return Case((draw(arrays(shape(axes_a))), draw(arrays(shape(axes_b)))), {"axes": axes})


SUMS = """
    -> | i-> | ij->ji | ij | ji | ij->j | ij,jk | ij,jk->ik | i,j->ij | ij,ij-> | b i j, b j k -> b i k | ij,jk,kl->il
    i,i,i->i | ,i->i | i,->i | ii-> | ii | ii->i | iii->i | iji->j | iij,j->i | ii,jj->ij | ij,k->k | ij,k,lk->l
    ... | ...->... | i...->...i | ...i,...i->... | ...ij,...jk->...ik | i...j,j->...i | ...,ij->ij... | ...,...
    b...,k... | ...ii->...i | ...i,i
"""


@st.composite
def einstein_sums(draw):
    subscripts = draw(st.sampled_from([part.strip() for line in SUMS.strip().split("\n") for part in line.split("|")]))
    sizes = {letter: draw(st.integers(0, 3)) for letter in subscripts if letter.isalpha()}
    terms = subscripts.replace(" ", "").partition("->")[0].split(",")
    dots = draw(broadcastable(len(terms))).input_shapes
    operands = []
    for term, wide in zip(terms, dots, strict=True):
        before, ellipsis, after = term.partition("...")
        shape = [sizes[i] for i in before] + list(wide if ellipsis else ()) + [sizes[i] for i in after]
        operands.append(draw(arrays(tuple(shape))))
    return Case(tuple(operands), {"subscripts": subscripts})


@st.composite
def convolutions(draw, axes):
    n, channels, out = draw(st.integers(0, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel = [draw(st.integers(1, 3)) for _ in range(axes)]
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    if axes == 2 and draw(st.booleans()):
        stride, padding = (stride, draw(st.integers(1, 2))), (padding, draw(st.integers(0, 1)))
    least = zip(kernel, np.broadcast_to(padding, axes).tolist(), strict=True)
    sizes = [max(k - 2 * p, 0) + draw(st.integers(0, 3)) for k, p in least]
    parts = [draw(arrays((n, channels, *sizes))), draw(arrays((out, channels, *kernel)))]
    if draw(st.booleans()):
        parts.append(draw(arrays((out,))))
    return Case(tuple(parts), {"stride": stride, "padding": padding})


@st.composite
def pools(draw, values):
    kernel = draw(st.sampled_from([1, 2, (2, 2), (3, 1), (2, 3)]))
    stride = draw(st.sampled_from([None, 1, 2, (1, 2)]))
    padding = draw(st.sampled_from([0, tuple(k // 2 for k in np.broadcast_to(kernel, 2).tolist())]))
    sizes = [k + draw(st.integers(0, 3)) for k in np.broadcast_to(kernel, 2).tolist()]
    x = draw(arrays((draw(st.integers(0, 2)), draw(st.integers(1, 2)), *sizes), values))
    return Case((x,), {"kernel": kernel, "stride": stride, "padding": padding})


@st.composite
def affine_maps(draw):
    batch = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    n_in, n_out = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    x, weight = draw(arrays((*batch, n_in))), draw(arrays((n_out, n_in)))
    return Case((x, weight, draw(arrays((n_out,)))) if draw(st.booleans()) else (x, weight))


@st.composite
def indices(draw, shape):
    """Whatever NumPy takes in brackets, integers that name an element twice among them."""
    kind = draw(
        st.sampled_from(["basic", "mask", "mask of rows", "integers", "sequence", "all axes", "mixed", "apart"])
    )
    assume(kind in ("basic", "mask") or (shape and all(shape)))
    if kind == "basic":
        return draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True) | st.just(True))
    if kind == "mask":
        return draw(hnp.arrays(bool, shape))
    if kind == "mask of rows":
        return draw(hnp.arrays(bool, shape[:1]))
    ids = [draw(ids_within(size, draw(st.sampled_from([(0,), (1,), (4,), (2, 2)])))) for size in shape]
    if kind == "integers":
        return ids[0]
    if kind == "sequence":
        return draw(st.lists(axis_of(range(shape[0])), max_size=4))
    if kind == "all axes":
        count = draw(st.integers(1, 4))
        same = [draw(ids_within(size, (count,))) for size in shape]
        return tuple(same) if draw(st.booleans()) else tuple(tuple(i.tolist()) for i in same)
    if kind == "apart" and len(shape) > 2:  # arrays with a slice between them: NumPy puts their axes in front
        return (ids[0], slice(None, None, -1), ids[2].flat[:1] if ids[2].size else 0)
    return (..., None, ids[-1])


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
def takes(draw):
    shape = draw(SHAPES)
    axis = draw(st.none() | axis_of(shape)) if shape else None
    size = math.prod(shape) if axis is None else shape[axis]
    form = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)) if size else (0,)
    return Case((draw(arrays(shape)),), {"indices": draw(ids_within(size or 1, form)), "axis": axis})


@st.composite
def takes_along(draw):
    shape = draw(SHAPES_WITH_AXES)
    axis = draw(axis_of(shape))
    form = [draw(st.sampled_from([1, size])) for size in shape]
    form[axis] = draw(st.integers(0, 3)) if shape[axis] else 0
    return Case((draw(arrays(shape)),), {"indices": draw(ids_within(shape[axis] or 1, tuple(form))), "axis": axis})


@st.composite
def added_rows(draw):
    shape = draw(SHAPES_WITH_AXES)
    index = draw(ids_within(shape[0] or 1, draw(st.integers(0, 4)) if shape[0] else 0))
    values = draw(st.sampled_from([(len(index), *shape[1:]), shape[1:]]))
    return Case((draw(arrays(shape)), draw(arrays(values))), {"index": index})


@st.composite
def classes(draw):
    size = draw(st.integers(1, 4))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    return Case((draw(hnp.arrays(np.int64, shape, elements=st.integers(0, size - 1))),), {"size": size})


@st.composite
def axis_moves(draw):
    shape = draw(SHAPES)
    count = draw(st.integers(0, len(shape)))
    source, destination = (draw(st.permutations(range(len(shape))))[:count] for _ in range(2))
    if count == 1 and draw(st.booleans()):
        return Case((draw(arrays(shape)),), {"source": source[0] - len(shape), "destination": destination[0]})
    return Case((draw(arrays(shape)),), {"source": tuple(source), "destination": tuple(destination)})


@st.composite
def rolls(draw):
    shape = draw(SHAPES)
    far = st.integers(-4, 4)
    kinds = [st.fixed_dictionaries({"shift": far, "axis": st.none()})]
    if shape:
        kinds.append(st.fixed_dictionaries({"shift": far, "axis": axis_of(shape)}))
        kinds.append(st.fixed_dictionaries({"shift": st.tuples(far, far), "axis": st.tuples(*[axis_of(shape)] * 2)}))
    return Case((draw(arrays(shape)),), draw(st.one_of(kinds)))


@st.composite
def borders(draw):
    shape = draw(SHAPES)
    few = st.integers(0, 2)
    widths = draw(few | st.tuples(few, few) | st.tuples(*[st.tuples(few, few)] * len(shape)))
    assume(shape or widths != ())
    return Case((draw(arrays(shape)),), {"widths": widths, "value": draw(st.sampled_from([0.0, 1.5]))})


@st.composite
def tilings(draw):
    times = draw(st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=4).map(tuple))
    return Case((draw(arrays(draw(SHAPES))),), {"times": times})


@st.composite
def repetitions(draw):
    shape = draw(SHAPES)
    axis = draw(st.none() | axis_of(shape)) if shape else None
    return Case((draw(arrays(shape)),), {"times": draw(st.integers(0, 3)), "axis": axis})


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
    if draw(st.booleans()):
        return Case((draw(arrays(shape)),), {"axis": draw(axis_of((*shape, 1)))})
    ndim = len(shape) + 2
    axes = draw(st.lists(st.integers(0, ndim - 1), min_size=2, max_size=2, unique=True))
    return Case((draw(arrays(shape)),), {"axis": tuple(axis - ndim * draw(st.booleans()) for axis in axes)})


@st.composite
def squeezes(draw):
    shape = list(draw(SHAPES))
    axis = draw(st.integers(0, len(shape)))
    shape.insert(axis, 1)
    axis -= len(shape) * draw(st.booleans())
    both = tuple({axis % len(shape), *(i for i, size in enumerate(shape) if size == 1)})
    return Case((draw(arrays(tuple(shape))),), {"axis": draw(st.sampled_from([None, axis, both, ()]))})


@st.composite
def flips(draw):
    shape = draw(SHAPES)
    return Case((draw(arrays(shape)),), {"axis": draw(axes_of(shape))})


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


def clipped(x, min, max):
    return np.minimum(np.maximum(x, -np.inf if min is None else min), np.inf if max is None else max)


def rows_added(x, values, index):
    y = x.copy()
    np.add.at(y, index, values)
    return y


def largest(x, k, axis):
    return np.flip(np.sort(x, axis), axis).take(range(k), axis)


def windows(x, kernel, stride, padding, value):
    """Every place of a kernel, and the part of x, with its border of `value`, that lies under it there."""
    axes = x.ndim - 2
    kernel, stride, padding = (np.broadcast_to(n, axes).tolist() for n in (kernel, stride, padding))
    x = np.pad(x, [(0, 0), (0, 0), *((n, n) for n in padding)], constant_values=value)
    count = [(size - k) // step + 1 for size, k, step in zip(x.shape[2:], kernel, stride, strict=True)]
    for place in np.ndindex(*count):
        under = (slice(i * step, i * step + k) for i, step, k in zip(place, stride, kernel, strict=True))
        yield count, place, x[(..., *under)]


def convolved(x, weight, bias=None, stride=1, padding=0):
    axes = tuple(range(-x.ndim + 1, 0))
    for count, place, part in windows(x, weight.shape[2:], stride, padding, 0):
        if not any(place):
            y = np.zeros((len(x), len(weight), *count))
        y[(..., *place)] = (part[:, None] * weight).sum(axes) + (0 if bias is None else bias)
    return y


def pooled(how, value):
    def pool(x, kernel, stride, padding):
        for count, place, part in windows(x, kernel, kernel if stride is None else stride, padding, value):
            if not any(place):
                y = np.zeros((*x.shape[:2], *count))
            y[(..., *place)] = how(part, axis=(-2, -1))
        return y

    return pool


ROWS = [
    Row("abs", ops.abs, np.abs, unary(off_zero)),
    Row("add", ops.add, np.add, binary()),
    Row("argmax", ops.argmax, np.argmax, along_an_axis(), differentiable=False),
    Row("argmin", ops.argmin, np.argmin, along_an_axis(), differentiable=False),
    Row("argsort", ops.argsort, np.argsort, along_an_axis(distinct, of_nothing=True), differentiable=False),
    Row("astype", ops.astype, np.asarray, unary().map(lambda c: Case(c.arrays, {"dtype": float})), False),
    Row("avg_pool2d", ops.avg_pool2d, pooled(np.mean, 0), pools(ordinary)),
    Row("broadcast_to", ops.broadcast_to, np.broadcast_to, broadcasts()),
    Row("clip", ops.clip, clipped, bounds()),
    Row("concatenate", lambda *xs, axis: ops.concatenate(xs, axis), lambda *xs, axis: np.concatenate(xs, axis),
        joins(same_size=False)),
    Row("conv1d", ops.conv1d, convolved, convolutions(1)),
    Row("conv2d", ops.conv2d, convolved, convolutions(2)),
    Row("cos", ops.cos, np.cos, unary()),
    Row("cumsum", ops.cumsum, np.cumsum, along_an_axis(of_nothing=True) | flattened()),
    Row("div", ops.div, np.divide, binary(values_b=off_zero)),
    Row("dot", ops.dot, np.dot, dots()),
    Row("einsum", lambda *xs, subscripts: ops.einsum(subscripts, *xs),
        lambda *xs, subscripts: np.einsum(subscripts, *xs), einstein_sums()),
    Row("embedding", lambda weight, ids: ops.embedding(ids, weight), lambda weight, ids: weight[ids], embeddings()),
    Row("erf", ops.erf, scipy.special.erf, unary()),
    Row("exp", ops.exp, np.exp, unary()),
    Row("expand_dims", ops.expand_dims, np.expand_dims, new_axes()),
    Row("expm1", ops.expm1, np.expm1, unary()),
    Row("flatten", ops.flatten, np.ravel, unary()),
    Row("flip", ops.flip, np.flip, flips()),
    Row("gelu", ops.gelu, lambda x: x * scipy.special.ndtr(x), unary()),
    Row("getitem", ops.getitem, lambda x, index: x[index], look_ups()),
    Row("index_add", lambda x, values, index: ops.index_add(x, index, values), rows_added, added_rows()),
    Row("leaky_relu", ops.leaky_relu, lambda x: np.maximum(x, x / 100), unary(off_zero)),
    Row("linear", ops.linear, affine, affine_maps()),
    Row("log", ops.log, np.log, unary(positive)),
    Row("log1p", ops.log1p, np.log1p, unary(above_minus_one)),
    Row("log_sigmoid", ops.log_sigmoid, scipy.special.log_expit, unary()),
    Row("log_softmax", ops.log_softmax, scipy.special.log_softmax, along_an_axis()),
    Row("logsumexp", ops.logsumexp, log_sum_exp, reductions()),
    Row("matmul", ops.matmul, np.matmul, matrix_products()),
    Row("max", ops.max, np.max, reductions(distinct)),
    Row("max_pool2d", ops.max_pool2d, pooled(np.max, -np.inf), pools(distinct)),
    Row("maximum", ops.maximum, np.maximum, binary(distinct, distinct_and_shifted)),
    Row("mean", ops.mean, np.mean, reductions()),
    Row("min", ops.min, np.min, reductions(distinct)),
    Row("minimum", ops.minimum, np.minimum, binary(distinct, distinct_and_shifted)),
    Row("moveaxis", ops.moveaxis, np.moveaxis, axis_moves()),
    Row("mul", ops.mul, np.multiply, binary()),
    Row("neg", ops.neg, np.negative, unary()),
    Row("norm", ops.norm, lambda x, axis, keepdims: np.sqrt(np.sum(x**2, axis=axis, keepdims=keepdims)),
        reductions(off_zero)),
    Row("one_hot", ops.one_hot, lambda ids, size: np.eye(size, dtype=np.float32)[ids], classes(), differentiable=False),
    Row("outer", ops.outer, np.outer, outer_products()),
    Row("pad", ops.pad, lambda x, widths, value: np.pad(x, widths, constant_values=value), borders()),
    Row("pow", ops.pow, lambda a, b: a**b, binary(values_a=positive) | integer_powers()),
    Row("prod", ops.prod, np.prod, reductions(with_zeros, of_nothing=True)),
    Row("put", ops.put, add_at, scatters()),
    Row("relu", ops.relu, lambda x: np.maximum(x, 0), unary(off_zero)),
    Row("repeat", ops.repeat, lambda x, times, axis: np.repeat(x, times, axis), repetitions()),
    Row("reshape", lambda x, shape: ops.reshape(x, shape), np.reshape, reshapes()),
    Row("roll", ops.roll, np.roll, rolls()),
    Row("sigmoid", ops.sigmoid, scipy.special.expit, unary(shapes=SHAPES | st.just((30, 30)))),  # small and large
    Row("sign", ops.sign, np.sign, unary(off_zero)),
    Row("silu", ops.silu, lambda x: x * scipy.special.expit(x), unary()),
    Row("sin", ops.sin, np.sin, unary()),
    Row("softmax", ops.softmax, scipy.special.softmax, along_an_axis()),
    Row("softplus", ops.softplus, lambda x: np.log(1 + np.exp(x)), unary()),
    Row("sort", ops.sort, np.sort, along_an_axis(distinct, of_nothing=True)),
    Row("split", ops.split, lambda x, sections, axis: tuple(np.split(x, sections, axis)), cuts()),
    Row("sqrt", ops.sqrt, np.sqrt, unary(positive)),
    Row("squeeze", ops.squeeze, np.squeeze, squeezes()),
    Row("stack", lambda *xs, axis: ops.stack(xs, axis), lambda *xs, axis: np.stack(xs, axis), joins(same_size=True)),
    Row("std", ops.std, np.std, spreads(fewest=2)),
    Row("sub", ops.sub, np.subtract, binary()),
    Row("sum", ops.sum, np.sum, reductions(of_nothing=True)),
    Row("swapaxes", ops.swapaxes, lambda x, a, b: np.swapaxes(x, a, b), axis_swaps()),
    Row("take", ops.take, np.take, takes()),
    Row("take_along_axis", ops.take_along_axis, np.take_along_axis, takes_along()),
    Row("tanh", ops.tanh, np.tanh, unary()),
    Row("tensordot", ops.tensordot, np.tensordot, contractions()),
    Row("tile", ops.tile, lambda x, times: np.tile(x, times), tilings()),
    Row("topk", lambda x, k, axis: ops.topk(x, k, axis)[0], largest, best_few()),
    Row("transpose", lambda x, axes: ops.transpose(x, axes), np.transpose, transposes()),
    Row("unstack", ops.unstack, lambda x, axis: tuple(np.moveaxis(x, axis, 0)), along_an_axis(of_nothing=True)),
    Row("var", ops.var, np.var, spreads()),
    Row("where", lambda a, b, condition: ops.where(condition, a, b), lambda a, b, condition: np.where(condition, a, b),
        choices()),
]  # fmt: skip
