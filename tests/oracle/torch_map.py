"""Which of PyTorch's samples test which operation, and how their arguments are said here.

A row names the operation (or the function of `nn.functional`), the entries of PyTorch's `op_db` ("name" or
"name.variant") and, where the arguments differ, an adapter: `call(op, input, *args, **kwargs)`, whose tensors are
Variables and arrays already. An adapter raises Otherwise where this library says another thing on purpose.

Rows of operations that are not here yet wait for them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.oracle.compare import Otherwise
from tinygrad_nlp.autograd import ops

NOT_ASKED = {
    "dropout": "PyTorch draws other random numbers",
    "lstm": "PyTorch has it as a layer: test_torch_layers.py",
}


def renamed(op, x, *args, dim=None, keepdim=None, **options):
    """The same call with NumPy's names for `dim` and `keepdim`."""
    if dim is not None:
        options["axis"] = tuple(dim) if isinstance(dim, list) else dim
    if keepdim is not None:
        options["keepdims"] = keepdim
    return op(x, *args, **options)


@dataclass(frozen=True)
class Row:
    """One operation: PyTorch's samples for it, and how they are said here.

    Attributes:
        name: in `tinygrad_nlp` or `nn.functional`.
        samples: entries of `op_db`.
        call: of the adapter.
        outputs: how many of PyTorch's outputs are compared; by default all.
    """

    name: str
    samples: tuple[str, ...]
    call: Callable[..., Any] = renamed
    outputs: int | None = None


# --- adapters ---------------------------------------------------------------------------------------------------------


def scaled_by_alpha(op, x, y, alpha=1):
    return op(x, y if alpha == 1 else y * alpha)


def swapped(op, x, y, alpha=1):
    """`x.__rsub__(y)` and its like."""
    return op(y, x if alpha == 1 else x * alpha)


def without_rounding(op, x, y, rounding_mode=None):
    if rounding_mode:
        raise Otherwise("division is not rounded")
    return op(x, y)


def over_axes(op, x, dim=None, keepdim=False):
    """A reduction. PyTorch takes no axes at all for all of them, and axis 0 of a number."""
    axis = None if dim is None or dim == () or dim == [] else tuple(dim) if isinstance(dim, list | tuple) else dim
    if x.ndim == 0 and axis is not None:
        raise Otherwise("a number has no axis")
    return op(x, axis=axis, keepdims=keepdim)


def in_another_dtype(call):
    """What PyTorch converts first where a dtype is passed."""

    def adapter(op, x, *args, dtype=None, **options):
        return call(op, x if dtype is None else ops.astype(x, dtype), *args, **options)

    return adapter


def along_axis(op, x, dim):
    if x.ndim == 0:
        raise Otherwise("a number has no axis")
    if x.shape[dim] == 0:
        raise Otherwise("no scores have no probabilities")
    return op(x, axis=dim)


def joined(op, xs, dim=0):
    if len({x.ndim for x in xs}) > 1:
        raise Otherwise("an empty vector joins only vectors")
    return op(xs, axis=dim)


def converted(op, x, *args, memory_format=None, copy=None):
    dtypes = [arg.dtype if hasattr(arg, "dtype") else arg for arg in args if hasattr(arg, "dtype") or _is_dtype(arg)]
    if not dtypes:
        raise Otherwise("only the dtype is changed")
    return op(x, dtypes[0])


def _is_dtype(x):
    return isinstance(x, np.dtype)


def reversed_axes(op, x, dims):
    return op(x, tuple(dims))


def indexed(op, x, index):
    parts = index if isinstance(index, list | tuple) else (index,)
    several = isinstance(index, tuple) or any(not isinstance(part, int) for part in parts)
    return op(x, tuple(parts) if several else index)


def put_into(op, x, index, values, accumulate=False):
    """PyTorch puts values into an array, we make one of zeros."""
    index = tuple(index)
    if accumulate:
        return x + op(values, index, x.shape)
    kept = np.ones(x.shape, x.dtype)
    kept[index] = 0
    return x * kept + op(values, index, x.shape)


def look_up(op, weight, ids, **options):
    if options:
        raise Otherwise("no padding_idx, max_norm, scale_grad_by_freq or sparse")
    return op(ids, weight)


def chosen(op, a, condition, b):
    return op(condition, a, b)


def cut(op, x, sections, axis=0):
    """PyTorch's `split` takes the size of the parts, or the sizes."""
    size = x.shape[axis]
    ends = range(sections, size, sections) if isinstance(sections, int) else np.cumsum(sections)[:-1].tolist()
    return op(x, list(ends), axis)


def cut_at(op, x, sections, axis=0):
    """PyTorch's `tensor_split` is NumPy's `array_split`."""
    sections = sections.tolist() if isinstance(sections, np.ndarray) else sections
    if isinstance(sections, int) and x.shape[axis] % sections:
        raise Otherwise("parts must be equal")
    return op(x, list(sections) if isinstance(sections, tuple) else sections, axis)


def squeezed(op, x, *axes):
    if not axes:
        return op(x)
    axes = axes[0] if isinstance(axes[0], list | tuple) else axes
    if x.ndim == 0 and axes:
        raise Otherwise("a number has no axis")
    if any(x.shape[axis] != 1 for axis in axes):
        raise Otherwise("an axis of another size than 1 is refused")
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = op(x, axis)
    return x


def exchanged(op, x, a, b):
    if x.ndim == 0:
        raise Otherwise("a number has no axis")
    return op(x, a, b)


def permuted(op, x, *axes):
    return op(x, axes[0]) if axes else op(x)


def taken_apart(op, x, *axis):
    return op(x, *axis)


def crossed(op, logits, targets, *, weight=None, reduction="mean", ignore_index=-100, label_smoothing=0.0):
    """Our classes lie on the last axis, PyTorch's on the second."""
    if targets.dtype.kind == "f":
        raise Otherwise("targets are ids, no probabilities")
    if weight is not None or reduction != "mean" or label_smoothing:
        raise Otherwise("the plain mean only: no weight, sum, none, smoothing")
    if (targets == ignore_index).all():
        raise Otherwise("the mean of no targets is 0, not nan")
    axes = (0, *range(2, logits.ndim), 1)
    return op(logits if logits.ndim < 3 else ops.transpose(logits, axes), targets, ignore_index=ignore_index)


def attended(op, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    if dropout_p:
        raise Otherwise("no dropout inside")
    if attn_mask is not None and attn_mask.dtype != bool:
        raise Otherwise("masks are boolean, not added")
    if enable_gqa or query.shape[:-2] != key.shape[:-2]:
        raise Otherwise("query and key have the same leading axes")
    if is_causal:
        attn_mask = np.tri(query.shape[-2], key.shape[-2], dtype=bool)
    return op(query, key, value, attn_mask, scale)[0]


def with_correction(op, x, dim=None, unbiased=None, keepdim=False, correction=1):
    """The variance: PyTorch divides by n - 1 by default."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None:
        correction = int(unbiased)
    axis = tuple(dim) if isinstance(dim, list | tuple) else dim
    return op(x, axis=axis, correction=1 if correction is None else correction, keepdims=keepdim)


def clamped(op, x, low=None, high=None):
    if any(bound is not None and bound.dtype != x.dtype for bound in (low, high)):
        raise Otherwise("NumPy promotes int32 and float32 to float64")
    return op(x, low, high)


def summed_over(op, equation_or_xs, *args):
    """PyTorch's sample holds the list of arrays as its input and the equation as its argument."""
    return op(args[0], *equation_or_xs)


def sorted_along(op, x, axis=-1, descending=False, dim=None, stable=None):
    axis = axis if dim is None else dim
    if x.ndim == 0:
        raise Otherwise("a number has no axis")
    return op(x, axis, descending)


def rolled(op, x, shifts, dims=None):
    return op(x, shifts, dims)


def of_ids(op, x, index, axis=None):
    if axis is None:
        raise Otherwise("an axis is always named")
    return op(x, index, axis)


def gathered(op, x, axis, index):
    if x.ndim == 0:
        raise Otherwise("a number has no axis")
    return op(x, axis, index)


def of_matrix(op, x, *offset):
    return op(x, *offset)


def moved(op, x, source, destination):
    return op(x, tuple(source), tuple(destination))


def normed(op, x, ord=2, dim=None, keepdim=False, dtype=None):
    if x.ndim == 0:
        raise Otherwise("a number has no axis")
    if dtype is not None:
        x = ops.astype(x, dtype)
    if ord not in (1, 2, math.inf):
        raise Otherwise("the orders are 1, 2 and ∞")
    return op(x, ord=ord, axis=tuple(dim) if isinstance(dim, list | tuple) else dim, keepdims=keepdim)


def product_of(op, x, *axis, dim=None, keepdim=False, dtype=None):
    axis = axis[0] if axis else dim
    if x.ndim == 0 and axis is not None:
        raise Otherwise("a number has no axis")
    return op(x if dtype is None else ops.astype(x, dtype), axis=axis, keepdims=keepdim)


def running(op, x, axis, dtype=None):
    if x.ndim == 0:
        raise Otherwise("a number has no axis")
    return op(x if dtype is None else ops.astype(x, dtype), axis=axis)


def normalized(op, x, shape, weight=None, bias=None, eps=1e-5):
    if eps < 0:
        raise Otherwise("eps is positive")
    return op(x, shape, weight, bias, eps)


ROWS = [
    Row("abs", ("abs",)),
    Row("add", ("add", "__radd__"), scaled_by_alpha),
    Row("astype", ("to", "double", "float", "half"), converted),
    Row("broadcast_to", ("broadcast_to",)),
    Row("concatenate", ("cat",), joined),
    Row("div", ("div.no_rounding_mode", "true_divide", "div.floor_rounding", "div.trunc_rounding"), without_rounding),
    Row("div", ("__rdiv__",), swapped),
    Row("embedding", ("nn.functional.embedding",), look_up),
    Row("exp", ("exp",)),
    Row("expand_dims", ("unsqueeze",)),
    Row("flip", ("flip",), reversed_axes),
    Row("getitem", ("__getitem__",), indexed),
    Row("linear", ("nn.functional.linear",)),
    Row("log", ("log",)),
    Row("log_softmax", ("log_softmax", "log_softmax.with_dtype"), in_another_dtype(along_axis)),
    Row("logsumexp", ("logsumexp",), over_axes),
    Row("matmul", ("matmul", "mm", "bmm", "mv")),
    Row("matmul", ("__rmatmul__",), swapped),
    Row("max", ("amax", "max.reduction_with_dim", "max.reduction_no_dim"), over_axes, outputs=1),
    Row("maximum", ("maximum", "max.binary")),
    Row("mean", ("mean",), over_axes),
    Row("min", ("amin", "min.reduction_with_dim", "min.reduction_no_dim"), over_axes, outputs=1),
    Row("minimum", ("minimum", "min.binary")),
    Row("mul", ("mul", "__rmul__")),
    Row("neg", ("neg",)),
    Row("pow", ("pow",)),
    Row("pow", ("__rpow__",), swapped),
    Row("put", ("index_put",), put_into),
    Row("relu", ("nn.functional.relu",)),
    Row("reshape", ("reshape", "view")),
    Row("sigmoid", ("sigmoid",)),
    Row("softmax", ("softmax", "softmax.with_dtype"), in_another_dtype(along_axis)),
    Row("split", ("split", "split.list_args"), cut),
    Row("sqrt", ("sqrt",)),
    Row("squeeze", ("squeeze", "squeeze.multiple"), squeezed),
    Row("stack", ("stack",), joined),
    Row("sub", ("sub",), scaled_by_alpha),
    Row("sub", ("rsub", "__rsub__"), swapped),
    Row("sum", ("sum",), over_axes),
    Row("swapaxes", ("transpose",), exchanged),
    Row("tanh", ("tanh",)),
    Row("transpose", ("permute", "T"), permuted),
    Row("unstack", ("unbind",), taken_apart),
    Row("where", ("where",), chosen),
    # Functions of layers.
    Row("attention", ("nn.functional.scaled_dot_product_attention",), attended),
    Row("cross_entropy", ("nn.functional.cross_entropy",), crossed),
]

# Operations whose name and arguments are PyTorch's: nothing to adapt.
_ELEMENTWISE = (
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "cos", "cosh", "digamma", "erf", "erfc",
    "erfinv", "exp2", "expm1", "floor", "frac", "hypot", "lgamma", "log10", "log1p", "log2", "logaddexp", "reciprocal",
    "rsqrt", "sign", "sin", "sinc", "sinh", "square", "tan", "trunc", "xlogy",
)  # fmt: skip
_ACTIVATIONS = (
    "celu", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish", "relu6",
    "selu", "silu", "softplus", "softsign",
)  # fmt: skip
_PRODUCTS = ("dot", "inner", "kron", "outer")

ROWS += [Row(name, (name,)) for name in (*_ELEMENTWISE, *_PRODUCTS)]
ROWS += [Row(name, (f"nn.functional.{name}",)) for name in _ACTIVATIONS]
ROWS += [
    Row("clamp", ("clamp",), clamped),
    Row("clip", ("clamp",), clamped),
    Row("conv1d", ("nn.functional.conv1d",)),
    Row("conv2d", ("nn.functional.conv2d",)),
    Row("cumprod", ("cumprod",), running),
    Row("cumsum", ("cumsum",), running),
    Row("diag", ("diag",), of_matrix),
    Row("einsum", ("einsum",), summed_over),
    Row("gather", ("gather",), gathered),
    Row("layer_norm", ("nn.functional.layer_norm",), normalized),
    Row("mse_loss", ("nn.functional.mse_loss",)),
    Row("moveaxis", ("movedim",), moved),
    Row("norm", ("linalg.vector_norm",), normed),
    Row("prod", ("prod",), product_of),
    Row("roll", ("roll",), rolled),
    Row("sort", ("sort",), sorted_along, outputs=1),
    Row("std", ("std", "std.unbiased"), with_correction),
    Row("take_along_axis", ("take_along_dim",), of_ids),
    Row("tensordot", ("tensordot",), lambda op, a, b, dims: op(a, b, dims)),
    Row("tile", ("tile",)),
    Row("trace", ("trace",)),
    Row("tril", ("tril",), of_matrix),
    Row("triu", ("triu",), of_matrix),
    Row("var", ("var", "var.unbiased"), with_correction),
]
