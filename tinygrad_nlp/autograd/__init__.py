"""The core: Variable, Function, the engine, the operations, gradient checks and graph drawing."""

from . import ops as ops
from .check import check_grads
from .function import Function, Fused, grad
from .graph import draw
from .modes import enable_grad, no_grad, scope
from .sparse import RowSparse
from .variable import Variable, from_dlpack

__all__ = [
    "Function", "Fused", "RowSparse", "Variable", "check_grads", "draw", "enable_grad", "from_dlpack", "grad",
    "no_grad", "scope",
]  # fmt: skip
