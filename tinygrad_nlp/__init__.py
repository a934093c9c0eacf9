"""tinygrad_nlp: a define-by-run autograd micro-framework for neural language processing, on NumPy or CuPy."""

from . import cuda, tuning
from .autograd import *  # noqa: F403
from .autograd import __all__ as _core
from .autograd.ops import *  # noqa: F403
from .autograd.ops import __all__ as _operations
from .backend import manual_seed

__version__ = "0.1.0"
__all__ = [*_core, *_operations, "cuda", "manual_seed"]

tuning.apply()
