"""What there is of GPUs. `Variable.to` and `Module.to` bring arrays there; `manual_seed` holds for all devices."""

from __future__ import annotations

from . import backend

__all__ = ["device_count", "is_available"]


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
