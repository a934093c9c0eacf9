"""The operations, and the table that gives them to Variable as operators and methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..variable import Variable
from .elementwise import (
    abs,
    add,
    astype,
    div,
    exp,
    log,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    rdiv,
    relu,
    rpow,
    rsub,
    sigmoid,
    sqrt,
    sub,
    tanh,
    where,
)
from .indexing import embedding, getitem, put
from .products import linear, matmul, rmatmul
from .reductions import log_softmax, logsumexp, max, mean, min, softmax, sum
from .shaping import (
    broadcast_to,
    concatenate,
    expand_dims,
    flip,
    reshape,
    split,
    squeeze,
    stack,
    swapaxes,
    transpose,
    unstack,
)

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
    "__abs__": abs,
    "__matmul__": matmul,
    "__rmatmul__": rmatmul,
    "__getitem__": getitem,
    "__iter__": lambda x: iter(unstack(x)),
}

METHODS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        abs, astype, exp, expand_dims, flip, log, log_softmax, logsumexp, max, mean, min, relu, reshape, sigmoid,
        softmax, sqrt, squeeze, sum, swapaxes, tanh, transpose, unstack,
    )
}  # fmt: skip


def _comparison(name: str) -> Callable[[Any, Any], Any]:
    def compare(self: Variable, other: Any) -> Any:
        return getattr(self.data, name)(other.data if isinstance(other, Variable) else other)

    compare.__doc__ = "A plain boolean array: a comparison has no gradient."
    return compare


for _name, _function in (OPERATORS | METHODS).items():
    setattr(Variable, _name, _function)
for _name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"):
    setattr(Variable, _name, _comparison(_name))
Variable.__hash__ = object.__hash__  # type: ignore[method-assign]  # a Variable is itself, whatever its values
Variable.T = property(transpose, doc="All axes in reverse.")  # type: ignore[attr-defined]

__all__ = [
    "abs", "add", "astype", "broadcast_to", "concatenate", "div", "embedding", "exp", "expand_dims", "flip", "getitem",
    "linear", "log", "log_softmax", "logsumexp", "matmul", "max", "maximum", "mean", "min", "minimum", "mul", "neg",
    "pow", "put", "relu", "reshape", "sigmoid", "softmax", "split", "sqrt", "squeeze", "stack", "sub", "sum",
    "swapaxes", "tanh", "transpose", "unstack", "where",
]  # fmt: skip
