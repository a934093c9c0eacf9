"""The optimizers, each a rule for one parameter, and what they share.

A rule works in place on blocks that stay in cache: a large array would come from memory again for each of the ten
passes of a step of Adam.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from ..autograd import RowSparse, Variable
from ..backend import Array, asnumpy, get_array_module

BLOCK = 2**15  # elements: a parameter, its gradient, two moments and one more array make 640 kB of float32


class Optimizer:
    """What the optimizers share: the parameters, their state, and its form in a checkpoint.

    Args:
        parameters: leaves; one that is listed twice is one. Those without a gradient are left alone by `step`.
        lr: learning rate; can be changed between steps.
    """

    slots: ClassVar[tuple[str, ...]] = ()  # the arrays that a rule keeps for each parameter

    def __init__(self, parameters: Iterable[Variable], lr: float) -> None:
        if not lr >= 0:
            raise ValueError(f"{type(self).__name__}: lr must not be negative, but is {lr}")
        self.parameters = list({id(p): p for p in parameters}.values())
        if not self.parameters:
            raise ValueError(f"{type(self).__name__}: no parameters")
        self.lr = lr
        self.steps = 0
        self.state: list[dict[str, Array]] = [{} for _ in self.parameters]

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Update all parameters that have a gradient."""
        self.steps += 1
        for parameter, state in zip(self.parameters, self.state, strict=True):
            gradient = parameter.grad
            if gradient is None:
                continue
            if isinstance(gradient, Variable):
                gradient = gradient.data
            data = parameter.data
            if not state and self.slots:
                zeros_like = get_array_module(data).zeros_like
                state.update({slot: zeros_like(data) for slot in self.slots})
            if isinstance(gradient, RowSparse) and not self.update_rows(data, gradient):
                gradient = gradient.to_dense()
            if not isinstance(gradient, RowSparse):
                for block in _blocks(data, gradient, *state.values()):
                    self.update(*block)
            parameter.data = data  # tells graphs that saved it

    def update(self, data: Array, gradient: Array, *state: Array) -> None:
        """The rule, for one block: change `data` and `state` in place. `gradient` is not to be changed."""
        raise NotImplementedError

    def update_rows(self, data: Array, gradient: RowSparse) -> bool:
        """The rule for a row-sparse gradient, if it leaves rows of zero gradient as they are; says whether it did it.

        A rule with moments changes all rows at every step: it takes the dense gradient.
        """
        return False

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Steps, learning rate and arrays, by name: `0.m` is the slot m of the first parameter. Not copies."""
        arrays = {f"{i}.{slot}": a for i, state in enumerate(self.state) for slot, a in state.items()}
        return {"steps": self.steps, "lr": self.lr, "arrays": arrays}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            ValueError: it belongs to other parameters or to another rule; nothing was changed.
        """
        fresh: list[dict[str, Array]] = [{} for _ in self.parameters]
        for name, array in state["arrays"].items():
            index, _, slot = name.partition(".")
            fits = index.isdigit() and int(index) < len(fresh) and slot in self.slots
            if not fits or array.shape != self.parameters[int(index)].shape:
                raise ValueError(f"{type(self).__name__}: the state {name} {array.shape} is not of these parameters")
            data = self.parameters[int(index)].data
            fresh[int(index)][slot] = get_array_module(data).array(asnumpy(array), data.dtype)
        for slots in fresh:
            if slots and set(slots) != set(self.slots):
                raise ValueError(f"{type(self).__name__}: the state of a parameter is not whole: {sorted(slots)}")
        self.steps, self.lr = int(state["steps"]), float(state["lr"])
        self.state = [{slot: slots[slot] for slot in self.slots if slots} for slots in fresh]


class SGD(Optimizer):
    """Stochastic gradient descent: p ← p - lr g.

    Args:
        parameters: see Optimizer.
        lr: learning rate.
    """

    def update(self, data: Array, gradient: Array, *state: Array) -> None:
        """P ← p - lr g."""
        data -= self.lr * gradient

    def update_rows(self, data: Array, gradient: RowSparse) -> bool:
        """Only the rows that were looked up."""
        compact = gradient.coalesce()
        data[compact.rows] -= self.lr * compact.values
        return True


class Momentum(Optimizer):
    """SGD with momentum: v ← μ v + g, p ← p - lr v (PyTorch's form; Polyak, 1964).

    Args:
        parameters: see Optimizer.
        lr: learning rate.
        momentum: μ.
    """

    slots = ("v",)

    def __init__(self, parameters: Iterable[Variable], lr: float, momentum: float = 0.9) -> None:
        super().__init__(parameters, lr)
        self.momentum = momentum

    def update(self, data: Array, gradient: Array, *state: Array) -> None:
        """V ← μ v + g, p ← p - lr v."""
        (v,) = state
        v *= self.momentum
        v += gradient
        data -= self.lr * v


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015): m and v are running means of g and g², corrected for their start at zero.

    p ← p - lr · m̂ / (√v̂ + ε), with m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ).

    Args:
        parameters: see Optimizer.
        lr: learning rate.
        betas: β₁ and β₂.
        eps: ε.
    """

    slots = ("m", "v")

    def __init__(
        self,
        parameters: Iterable[Variable],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, lr)
        self.betas, self.eps = betas, eps

    def update(self, data: Array, gradient: Array, *state: Array) -> None:
        """As above, with the corrections drawn out of the fraction."""
        m, v = state
        beta1, beta2 = self.betas
        correction1, correction2 = 1 - beta1**self.steps, math.sqrt(1 - beta2**self.steps)
        # m += (1 - β₁)(g - m);  v += (1 - β₂)(g² - v)
        s = np.subtract(gradient, m, out=np.empty_like(m))  # an array also where m has no axes
        s *= 1 - beta1
        m += s
        np.multiply(gradient, gradient, out=s)
        s -= v
        s *= 1 - beta2
        v += s
        # m̂ / (√v̂ + ε) = (√(1 - β₂ᵗ) / (1 - β₁ᵗ)) · m / (√v + ε √(1 - β₂ᵗ))
        np.sqrt(v, out=s)
        s += self.eps * correction2
        np.divide(m, s, out=s)
        s *= self.lr * correction2 / correction1
        data -= s


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): p ← p (1 - lr λ) before the step of Adam.

    Args:
        parameters: see Optimizer.
        lr: learning rate.
        betas: β₁ and β₂.
        eps: ε.
        weight_decay: λ.
    """

    def __init__(
        self,
        parameters: Iterable[Variable],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps)
        self.weight_decay = weight_decay

    def update(self, data: Array, gradient: Array, *state: Array) -> None:
        """Decay, then Adam."""
        data *= 1 - self.lr * self.weight_decay
        super().update(data, gradient, *state)


def _blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """The same stretches of arrays of one shape, as views."""
    if arrays[0].size <= BLOCK or not all(isinstance(a, np.ndarray) and a.flags.c_contiguous for a in arrays):
        yield arrays
        return
    flat = [a.reshape(-1) for a in arrays]
    for start in range(0, flat[0].size, BLOCK):
        yield tuple(a[start : start + BLOCK] for a in flat)
