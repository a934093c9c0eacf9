"""Pictures of data, training and attention: the only place of the library that imports matplotlib.

Every function takes plain arrays and returns a `matplotlib.figure.Figure`, made without pyplot: no window opens, no
backend is chosen, nothing has to be closed. `save` writes it to a file, and a notebook shows it. Sizes are in inches.
"""

try:
    import matplotlib as _matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError('tinygrad_nlp.plot needs matplotlib: pip install "tinygrad_nlp[viz]"') from error

from .attention import attention_map, attention_maps
from .boundary import decision_boundary
from .curves import learning_curve
from .lines import lines, panels
from .segments import segments
from .style import PALETTE, save, style
from .zipf import zipf

__all__ = [
    "PALETTE",
    "attention_map",
    "attention_maps",
    "decision_boundary",
    "learning_curve",
    "lines",
    "panels",
    "save",
    "segments",
    "style",
    "zipf",
]
