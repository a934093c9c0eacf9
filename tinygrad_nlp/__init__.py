"""tinygrad_nlp: a define-by-run autograd micro-framework for neural language processing, on NumPy or CuPy.

Write `import tinygrad_nlp as tn`. As with NumPy and PyTorch, `from tinygrad_nlp import *` would put `abs`, `max`,
`min`, `pow` and `sum` in the place of Python's own.
"""

from . import cuda, tuning
from .autograd import *  # noqa: F403
from .autograd import __all__ as _core
from .autograd.ops import *  # noqa: F403
from .autograd.ops import __all__ as _operations
from .backend import manual_seed

__version__ = "0.1.0"
__all__ = [*_core, *_operations, "cuda", "manual_seed"]

tuning.apply()
