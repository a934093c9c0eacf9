"""Values in tuples, lists and dictionaries: the states of models have many forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def map_nested(function: Callable[[Any], Any], nested: Any) -> Any:
    """Call a function with each array and Variable of a state, however deep it lies.

    Args:
        function: of one array or Variable.
        nested: one, or tuples (named ones too), lists and dictionaries of them; anything else, such as None, stays.

    Returns:
        What the function returned, in the same form.

    Example:
        >>> import numpy as np
        >>> from tinygrad_nlp.autograd.nested import map_nested
        >>> map_nested(np.ndim, (np.ones(3), {"c": np.ones((2, 2)), "nothing": None}))
        (1, {'c': 2, 'nothing': None})
    """
    if isinstance(nested, dict):
        return {name: map_nested(function, part) for name, part in nested.items()}
    if isinstance(nested, tuple | list):
        parts = [map_nested(function, part) for part in nested]
        return type(nested)(*parts) if hasattr(nested, "_fields") else type(nested)(parts)
    return function(nested) if hasattr(nested, "shape") else nested
