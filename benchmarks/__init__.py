"""Speed and memory of the library beside PyTorch's, measured in one run: `python -m benchmarks --help`.

OpenBLAS chooses its kernels when NumPy is loaded. An OPENBLAS_CORETYPE in the environment would hold it to others, and
with it the floor: it is left aside here, and the kernels that were at work are printed below the table.
"""

import os

os.environ.pop("OPENBLAS_CORETYPE", None)
