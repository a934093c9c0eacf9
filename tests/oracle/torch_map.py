"""Which of PyTorch's samples test which operation, and how their arguments are said here.

A row names the operation (or the function of `nn.functional`), the entries of PyTorch's `op_db` ("name" or
"name.variant") and, where the arguments differ, an adapter: `call(op, input, *args, **kwargs)`, whose tensors are
Variables and arrays already. An adapter raises Otherwise where this library says another thing on purpose.

Rows of operations that are not here yet wait for them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.oracle.compare import Otherwise
from tinygrad_nlp.autograd import ops

NOT_ASKED = {
    "dropout": "PyTorch draws other random numbers",
    "gru": "PyTorch has it as a layer: test_torch_layers.py",
    "linear_cross_entropy": "PyTorch has it as a layer: test_torch_layers.py",
    "lstm": "PyTorch has it as a layer: test_torch_layers.py",
    "one_hot": "PyTorch's samples are of integers, and nothing is differentiated",
    "rnn": "PyTorch has it as a layer: test_torch_layers.py",
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
    if x.ndim == 0 and axis is not None and op.__name__ in ("mean", "logsumexp"):
        raise Otherwise("NumPy's mean and SciPy's logsumexp take no axis of a number")
    return op(x, axis=axis, keepdims=keepdim)


def in_another_dtype(call):
    """What PyTorch converts first where a dtype is passed."""

    def adapter(op, x, *args, dtype=None, **options):
        return call(op, x if dtype is None else ops.astype(x, dtype), *args, **options)

    return adapter


def along_axis(op, x, dim):
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


def flattened(op, x, start_dim=0, end_dim=-1):
    if start_dim:
        raise Otherwise("all axes become one")
    return op(x)


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
    return op(x, tuple(axes))


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
    """PyTorch divides by n - 1 by default, NumPy and we by n."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None:
        correction = int(unbiased)
    axis = tuple(dim) if isinstance(dim, list | tuple) else dim
    return op(x, axis=axis, keepdims=keepdim, ddof=1 if correction is None else correction)


def clipped(op, x, *bounds, min_val=-1.0, max_val=1.0):
    if bounds:
        raise Otherwise("bounds are constants")
    return op(x, min_val, max_val)


def summed_over(op, operands, subscripts):
    return op(subscripts, *operands)


def sorted_along(op, x, axis=-1, descending=False, dim=None, stable=None):
    axis = axis if dim is None else dim
    if x.ndim == 0:
        raise Otherwise("a number has no axis")
    if not descending:
        return op(x, axis)
    if op.__name__ == "argsort":
        raise Otherwise("ascending only")
    return ops.flip(op(x, axis), axis)


def contracted(op, a, b, dims):
    if not isinstance(dims, int) and any(a.shape[i] != b.shape[j] for i, j in zip(*dims, strict=True)):
        raise Otherwise("axes of size 1 are not stretched")
    return op(a, b, dims)


def largest(op, x, k, axis=-1, largest=True, sorted=True):
    if x.ndim == 0:
        raise Otherwise("a number has no axis")
    return op(x, k, axis)


def with_axis_first(op, x, axis, *args):
    """`gather` and `index_select` name the axis before the index."""
    if x.ndim == 0:
        raise Otherwise("a number has no axis")
    if op.__name__ == "take_along_axis" and args[0].ndim != x.ndim:
        raise Otherwise("indices have as many axes as what they index")
    return op(x, *args, axis)


def with_axis_last(op, x, index, axis=None):
    if axis is None:
        raise Otherwise("an axis is always named")
    return op(x, index, axis)


def added_at(op, x, axis, index, values, alpha=1):
    """PyTorch adds along any axis, we along the first."""
    if x.ndim == 0:
        raise Otherwise("a number has no axis")
    return ops.swapaxes(op(ops.swapaxes(x, 0, axis), index, ops.swapaxes(values, 0, axis) * alpha), 0, axis)


def moved(op, x, source, destination):
    return op(x, tuple(source), tuple(destination))


def euclidean(op, x, *, ord=2, dim=None, keepdim=False, dtype=None):
    if ord != 2:
        raise Otherwise("the Euclidean norm only")
    return over_axes(op, x if dtype is None else ops.astype(x, dtype), dim, keepdim)


def product_of(op, x, *axis, dim=None, keepdim=False, dtype=None):
    return over_axes(op, x if dtype is None else ops.astype(x, dtype), axis[0] if axis else dim, keepdim)


def running(op, x, axis, dtype=None):
    if x.ndim == 0:
        raise Otherwise("a number has no axis")
    return op(x if dtype is None else ops.astype(x, dtype), axis=axis)


def padded(op, x, widths, mode="constant", value=0.0):
    """PyTorch's widths begin with the last axis, and may leave out the first ones."""
    if mode != "constant":
        raise Otherwise("padded with a constant only")
    if min(widths, default=0) < 0:
        raise Otherwise("a border is not negative")
    pairs = list(zip(widths[::2], widths[1::2], strict=True))[::-1]
    return op(x, [(0, 0)] * (x.ndim - len(pairs)) + pairs, value)


def repeated(op, x, repeats, dim=None, output_size=None):
    if not isinstance(repeats, int):
        raise Otherwise("one number of times for all elements")
    if x.ndim == 0:
        return op(ops.reshape(x, 1), repeats, 0)
    return op(x, repeats, dim)


def with_a_batch(call, op, x, *args, **options):
    """What PyTorch also takes alone: here there is always an axis for the batch."""
    return ops.squeeze(call(op, ops.expand_dims(x, 0), *args, **options), 0)


def convolved(op, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    if x.ndim < weight.ndim:
        return with_a_batch(convolved, op, x, weight, bias, stride, padding, dilation, groups)
    if groups != 1 or any(step != 1 for step in np.atleast_1d(dilation)):
        raise Otherwise("no groups and no dilation")
    if padding == "same":
        raise Otherwise("padding is a number")
    sizes = [0 if padding == "valid" else padding, stride]
    if weight.ndim == 3:
        sizes = [int(np.squeeze(size)) for size in sizes]
    padding, stride = (tuple(size) if isinstance(size, list) else size for size in sizes)
    return op(x, weight, bias, stride=stride, padding=padding)


def pooled(
    op, x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor=None, *, dilation=1,
    return_indices=False
):  # fmt: skip
    if x.ndim < 4:
        return with_a_batch(pooled, op, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor,
                            dilation=dilation)  # fmt: skip
    if ceil_mode or divisor is not None or not count_include_pad or dilation not in (1, (1, 1)):
        raise Otherwise("no ceil_mode, divisor or dilation")
    sizes = (tuple(np.broadcast_to(size, 2).tolist()) for size in (kernel_size, stride or kernel_size, padding))
    return op(x, *sizes)


def exact(op, x, approximate="none"):
    if approximate != "none":
        raise Otherwise("the exact form only")
    return op(x)


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
    Row("flatten", ("flatten", "ravel"), flattened),
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

ROWS += [
    Row("argmax", ("argmax",), over_axes),
    Row("argmin", ("argmin",), over_axes),
    Row("argsort", ("argsort",), sorted_along),
    Row("avg_pool2d", ("nn.functional.avg_pool2d",), pooled),
    Row("clip", ("nn.functional.hardtanh", "clamp"), clipped),
    Row("conv1d", ("nn.functional.conv1d",), convolved),
    Row("conv2d", ("nn.functional.conv2d",), convolved),
    Row("cos", ("cos",)),
    Row("cumsum", ("cumsum",), running),
    Row("dot", ("dot", "mm", "mv")),
    Row("einsum", ("einsum",), summed_over),
    Row("erf", ("erf",)),
    Row("expm1", ("expm1",)),
    Row("gelu", ("nn.functional.gelu",), exact),
    Row("index_add", ("index_add",), added_at),
    Row("layer_norm", ("nn.functional.layer_norm",), normalized),
    Row("leaky_relu", ("nn.functional.leaky_relu",)),
    Row("log1p", ("log1p",)),
    Row("log_sigmoid", ("nn.functional.logsigmoid",)),
    Row("max_pool2d", ("nn.functional.max_pool2d",), pooled, outputs=1),
    Row("moveaxis", ("movedim",), moved),
    Row("norm", ("linalg.vector_norm",), euclidean),
    Row("outer", ("outer",)),
    Row("pad", ("nn.functional.pad.constant", "nn.functional.pad.reflect"), padded),
    Row("prod", ("prod",), product_of),
    Row("repeat", ("repeat_interleave",), repeated),
    Row("roll", ("roll",)),
    Row("sign", ("sign",)),
    Row("silu", ("nn.functional.silu",)),
    Row("sin", ("sin",)),
    Row("softplus", ("nn.functional.logsigmoid",), lambda op, x: -op(-x)),  # its own samples are cut off at 0.2
    Row("sort", ("sort",), sorted_along, outputs=1),
    Row("std", ("std", "std.unbiased"), with_correction),
    Row("take", ("take",)),
    Row("take", ("index_select",), with_axis_first),
    Row("take_along_axis", ("take_along_dim",), with_axis_last),
    Row("take_along_axis", ("gather",), with_axis_first),
    Row("tensordot", ("tensordot",), contracted),
    Row("tile", ("tile", "repeat")),
    Row("topk", ("topk",), largest),
    Row("var", ("var", "var.unbiased"), with_correction),
]
