"""What there is of GPUs. `Variable.to` and `Module.to` bring arrays there; `manual_seed` holds for all devices."""

from __future__ import annotations

from contextlib import AbstractContextManager

from . import backend

__all__ = ["device", "device_count", "is_available"]


def is_available() -> bool:
    """Whether CuPy is installed and finds a GPU. As `torch.cuda.is_available`.

    Example:
        >>> import tinygrad_nlp as tn
        >>> device = "cuda" if tn.cuda.is_available() else "cpu"
        >>> tn.Variable([1.0, 2.0]).to(device).sum().item()
        3.0
    """
    return backend.cuda_is_available()


def device_count() -> int:
    """How many GPUs there are, named "cuda:0", "cuda:1" and so on; 0 without CuPy. As `torch.cuda.device_count`."""
    return backend.cuda_device_count()


def device(name: str) -> AbstractContextManager[object]:
    """Make a GPU the current one inside a `with`, in this thread. As `torch.cuda.device`.

    CuPy computes on the current GPU, which is the first one outside, and makes its arrays there; arrays of another one
    it refuses, or fetches anew for each operation. So all that is done with a model on "cuda:1", its training and the
    steps of its optimizer, is done inside `with tn.cuda.device("cuda:1"):`; and "cuda" is "cuda:1" there.

    Args:
        name: "cuda:1"; "cuda" is the one that is current already.

    Returns:
        A context manager.

    Raises:
        ValueError: it is no name of a GPU.
        RuntimeError: there is no such GPU, or no CuPy.
    """
    return backend.cuda_device(name)
