"""The operations, and the table that gives them to Variable as operators and methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..engine import Leaf
from ..variable import Variable
from .activations import gelu, leaky_relu, log_sigmoid, log_softmax, relu, sigmoid, silu, softmax, softplus
from .convolution import avg_pool2d, conv1d, conv2d, max_pool2d
from .elementwise import (
    abs,
    add,
    astype,
    clip,
    cos,
    div,
    erf,
    exp,
    expm1,
    log,
    log1p,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    rdiv,
    rpow,
    rsub,
    sign,
    sin,
    sqrt,
    sub,
    tanh,
    where,
)
from .indexing import embedding, getitem, index_add, one_hot, put, repeat, take, take_along_axis
from .ordering import argmax, argmin, argsort, sort, topk
from .products import dot, einsum, linear, matmul, outer, rmatmul, tensordot
from .reductions import cumsum, logsumexp, max, mean, min, norm, prod, std, sum, var
from .shaping import (
    Unstack,
    broadcast_to,
    concatenate,
    expand_dims,
    flatten,
    flip,
    moveaxis,
    pad,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    swapaxes,
    tile,
    to,
    transpose,
    unstack,
)


def _iterate(x: Variable) -> Iterator[Variable]:
    return iter(Unstack(0)(x) if len(x) else ())


def _itself(x: Variable) -> Variable:
    return x


OPERATORS: dict[str, Callable[..., Any]] = {
    "__add__": add,
    "__radd__": add,
    "__sub__": sub,
    "__rsub__": rsub,
    "__mul__": mul,
    "__rmul__": mul,
    "__truediv__": div,
    "__rtruediv__": rdiv,
    "__pow__": pow,
    "__rpow__": rpow,
    "__neg__": neg,
    "__pos__": _itself,
    "__abs__": abs,
    "__matmul__": matmul,
    "__rmatmul__": rmatmul,
    "__getitem__": getitem,
    "__iter__": _iterate,
}

IN_PLACE = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**", "matmul": "@"}

METHODS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        abs, argmax, argmin, argsort, astype, clip, cos, cumsum, dot, exp, expand_dims, expm1, flatten, flip, index_add,
        log, log1p, log_softmax, logsumexp, max, mean, min, moveaxis, norm, prod, relu, repeat, reshape, roll, sigmoid,
        sign, sin, softmax, sqrt, squeeze, std, sum, swapaxes, take, tanh, tile, to, topk, transpose, unstack,
        var,
    )
}  # fmt: skip


def _comparison(name: str) -> Callable[[Any, Any], Any]:
    def compare(self: Variable, other: Any) -> Any:
        return getattr(self.data, name)(other.data if isinstance(other, Variable) else other)

    compare.__doc__ = "A plain boolean array of the broadcast shape, as NumPy compares: it has no gradient."
    return compare


def _in_place(name: str, symbol: str) -> Callable[[Any, Any], Any]:
    binary = OPERATORS[f"__{name}__"]

    def operate(self: Variable, other: Any) -> Any:
        if isinstance(self.node, Leaf):
            raise TypeError(
                f"x {symbol}= … would leave a leaf that requires a gradient as it is, and call another Variable x: "
                f"write x.data {symbol}= … to change it, or x = x {symbol} … for the other"
            )
        return binary(self, other)

    operate.__doc__ = f"As `x = x {symbol} other`: a new Variable. On a leaf that requires a gradient a TypeError."
    return operate


for _name, _symbol in IN_PLACE.items():
    setattr(Variable, f"__i{_name}__", _in_place(_name, _symbol))
for _name, _function in (OPERATORS | METHODS).items():
    setattr(Variable, _name, _function)
for _name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"):
    setattr(Variable, _name, _comparison(_name))
Variable.__hash__ = object.__hash__  # type: ignore[method-assign]  # a Variable is itself, whatever its values
Variable.T = property(transpose, doc="All axes in reverse, as `numpy.ndarray.T`: a view.")  # type: ignore[attr-defined]

__all__ = [
    "abs", "add", "argmax", "argmin", "argsort", "astype", "avg_pool2d", "broadcast_to", "clip", "concatenate",
    "conv1d", "conv2d", "cos", "cumsum", "div", "dot", "einsum", "embedding", "erf", "exp", "expand_dims", "expm1",
    "flatten", "flip", "gelu", "getitem", "index_add", "leaky_relu", "linear", "log", "log1p", "log_sigmoid",
    "log_softmax", "logsumexp", "matmul", "max", "max_pool2d", "maximum", "mean", "min", "minimum", "moveaxis", "mul",
    "neg", "norm", "one_hot", "outer", "pad", "pow", "prod", "put", "relu", "repeat", "reshape", "roll", "sigmoid",
    "sign", "silu", "sin", "softmax", "softplus", "sort", "split", "sqrt", "squeeze", "stack", "std", "sub", "sum",
    "swapaxes", "take", "take_along_axis", "tanh", "tensordot", "tile", "topk", "transpose", "unstack", "var",
    "where",
]  # fmt: skip
