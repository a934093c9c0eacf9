"""The core: Variable, Function, the engine, the operations, transforms, gradient checks and graph drawing."""

from . import ops as ops
from .anomaly import detect_anomaly
from .check import check_grads
from .function import Function, Fused, grad
from .graph import draw
from .modes import enable_grad, inference_mode, no_grad, scope
from .recompute import checkpoint
from .sparse import RowSparse
from .transforms import hessian, hvp, jacobian, jvp, value_and_grad, vjp
from .variable import Variable, from_dlpack

__all__ = [
    "Function", "Fused", "RowSparse", "Variable", "check_grads", "checkpoint", "detect_anomaly", "draw", "enable_grad",
    "from_dlpack", "grad", "hessian", "hvp", "inference_mode", "jacobian", "jvp", "no_grad", "scope", "value_and_grad",
    "vjp",
]  # fmt: skip
