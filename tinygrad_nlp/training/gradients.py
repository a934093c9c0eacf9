"""How strongly a state depends on an earlier one: why gradients vanish and explode in recurrent networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..autograd import Variable, jacobian, no_grad
from ..autograd.nested import map_nested
from ..autograd.ops import concatenate, reshape
from ..backend import asnumpy


def step_jacobians(step: Callable[[Any, Any], Any], state: Any, inputs: Iterable[Any]) -> np.ndarray:
    """The Jacobians ∂s_t/∂s_{t-1} along a sequence.

    Args:
        step: from x_t and the state before to the state after, such as a cell of `nn`.
        state: before the first step: an array, or (h, c). All its elements end to end are s, of size S.
        inputs: x_1 … x_T, of any form that `step` takes.

    Returns:
        (T, S, S): row i of the t-th says how s_t[i] changes with s_{t-1}.

    Raises:
        ValueError: there are no inputs.

    Example:
        >>> import numpy as np
        >>> from tinygrad_nlp.training import product_norms, step_jacobians
        >>> W = np.diag([0.5, 0.9])
        >>> jacobians = step_jacobians(lambda x, h: h @ W + x, np.zeros((1, 2)), np.zeros((3, 1, 2)))
        >>> product_norms(jacobians)  # 0.9³, 0.9², 0.9
        array([0.729, 0.81 , 0.9  ])
    """
    found = []
    for x in inputs:
        parts: list[Any] = []
        map_nested(parts.append, state)

        def flat(*variables: Any, x: Any = x, before: Any = state) -> Any:
            left = iter(variables)
            after: list[Any] = []
            map_nested(lambda part: after.append(reshape(part, -1)), step(x, map_nested(lambda _: next(left), before)))
            return concatenate(after, axis=0)

        columns = jacobian(flat, *parts)
        columns = columns if isinstance(columns, tuple) else (columns,)
        columns = [asnumpy(c.data if isinstance(c, Variable) else c) for c in columns]
        found.append(np.concatenate([c.reshape(len(c), -1) for c in columns], axis=1))
        with no_grad():
            state = step(x, state)
    if not found:
        raise ValueError("step_jacobians: there are no inputs to step over")
    return np.stack(found)


def product_norms(jacobians: np.ndarray) -> np.ndarray:
    """The norms of ∂s_T/∂s_k = ∂s_T/∂s_{T-1} ⋯ ∂s_{k+1}/∂s_k (Pascanu, Mikolov and Bengio, 2013, eq. 5).

    Args:
        jacobians: (T, S, S), as `step_jacobians` gives them; or a part of it, such as `[:, :H, :H]`, which leaves out
            what goes through the other elements of the state.

    Returns:
        (T,), the largest singular values for k = 0 … T - 1: how much a small change of s_k can change s_T.
    """
    product, norms = np.eye(jacobians.shape[1]), []
    for step in jacobians[::-1].astype(np.float64):
        product = product @ step
        norms.append(np.linalg.norm(product, 2))
    return np.array(norms[::-1])
