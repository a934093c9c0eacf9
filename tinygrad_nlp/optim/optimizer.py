"""The optimizers, each a rule for one parameter, and what they share.

A rule works in place on blocks that stay in cache: a large array would come from memory again for each of the ten
passes of a step of Adam.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from ..autograd import RowSparse, Variable
from ..backend import Array, asnumpy, beside, get_array_module, has_kernels, launch

Parameters = Iterable[Variable] | Iterable[Mapping[str, Any]]  # or groups of them
BLOCK = 2**15  # elements: a parameter, its gradient, two moments and one more array make 640 kB of float32


class Optimizer:
    """What the optimizers share: the parameters, their state, and its form in a checkpoint.

    Parameters in groups have learning rates of their own, as layers have where a trained model is fine-tuned (Howard
    and Ruder, 2018). Their proportions stay: whoever sets `lr`, as schedules do, scales the rates of all groups.

    Args:
        parameters: leaves of any shape and a floating dtype; one that is listed twice is one. Those without a gradient
            are left alone by `step`, and so are frozen ones, whose `requires_grad` is False. Or groups of them, each
            `{"params": [...], "lr": ...}`; without "lr" it has that of the optimizer.
        lr: learning rate, 0 or more; above 0 where groups have others.

    Attributes:
        parameters: a list of them, each once.
        lr: can be changed between steps.
        rate: in `update`, the learning rate of the parameter at hand: `lr`, or what its group makes of it.
        steps: how many calls of `step` there were.
        updates: for each parameter, how often a rule that keeps state has changed it: the t of its corrections.
        state: for each parameter the arrays of the rule, by slot, of its shape and dtype; empty before its first
            update. They follow a parameter to another device at its next update.
        slots: the names of these arrays, the same for all parameters; none for a rule that keeps no state.
        t: in `update`, the one of `updates` that belongs to the parameter at hand.

    Raises:
        TypeError: the parameters are one Variable, or hold something else than Variables, or both them and groups.
        ValueError: there are none, or none in a group; one is no leaf, or in two groups; a group has other keys; or a
            learning rate is negative or NaN, or 0 for the optimizer and not for a group.

    Example:
        >>> from tinygrad_nlp import nn, optim
        >>> body, head = nn.Linear(4, 3), nn.Linear(3, 2)
        >>> optimizer = optim.Adam([{"params": body.parameters(), "lr": 0.25}, {"params": head.parameters()}], lr=1.0)
        >>> optimizer.lr = 0.5  # by hand, or by a schedule
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.125, 0.5]
    """

    slots: ClassVar[tuple[str, ...]] = ()  # the arrays that a rule keeps for each parameter

    def __init__(self, parameters: Parameters, lr: float) -> None:
        name = type(self).__name__
        if not lr >= 0:
            raise ValueError(f"{name}: lr must not be negative, but is {lr}")
        groups = _in_groups(name, parameters)
        self.parameters: list[Variable] = [p for group in groups for p in group["params"]]
        self._groups = [(len(group["params"]), _factor(name, group.get("lr", lr), lr)) for group in groups]
        self.lr = self.rate = lr
        self.steps = 0
        self.updates = [0] * len(self.parameters)  # how often each was updated, by a rule that keeps state
        self.t = 0  # the one of `updates` that belongs to the parameter in `update`
        self.state: list[dict[str, Array]] = [{} for _ in self.parameters]

    @property
    def param_groups(self) -> tuple[Mapping[str, Any], ...]:
        """The groups: "params", a list, and "lr", the rate of the next step. To be read: a rate is set by `lr`."""
        rest = iter(self.parameters)
        return tuple(
            MappingProxyType({"params": list(itertools.islice(rest, size)), "lr": self.lr * factor})
            for size, factor in self._groups
        )

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters: each `grad` becomes None."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Update all parameters that have a gradient and are not frozen, in place and in their own dtypes.

        Raises:
            ValueError: a gradient was put in by hand, and has another shape than its parameter; nothing was changed.
        """
        for i, parameter in enumerate(self.parameters):
            if parameter.grad is not None and parameter.grad.shape != parameter.shape:
                raise ValueError(
                    f"{type(self).__name__}: the gradient of parameter {i}, {parameter.name or 'without a name'}, has "
                    f"the shape {parameter.grad.shape}; {parameter.shape} is needed"
                )
        self.steps += 1
        factors = [factor for size, factor in self._groups for _ in range(size)]
        for i, parameter in enumerate(self.parameters):
            gradient = parameter.grad
            if gradient is None or not parameter.requires_grad:
                continue
            if isinstance(gradient, Variable):
                gradient = gradient.data
            data, state = parameter.data, self.state[i]
            self.rate = self.lr * factors[i]
            if self.slots:
                self.t = self.updates[i] = self.updates[i] + 1
                if not state:
                    zeros_like = get_array_module(data).zeros_like
                    state.update({slot: zeros_like(data) for slot in self.slots})
                elif type(data) is not np.ndarray or type(state[self.slots[0]]) is not np.ndarray:
                    # A parameter that is or was on a GPU may have been moved since.
                    state.update({slot: beside(array, data) for slot, array in state.items()})
            if isinstance(gradient, RowSparse) and not self.update_rows(data, gradient):
                gradient = gradient.to_dense()
            if not isinstance(gradient, RowSparse):
                for block in _blocks(data, gradient, *state.values()):
                    self.update(*block)
            parameter.data = data  # tells graphs that saved it

    def update(self, data: Array, gradient: Array, *state: Array) -> None:
        """The rule, for one block: change `data` and `state` in place.

        `self.rate` is the parameter's learning rate, and `self.t` counts its updates, from 1.

        Args:
            data: of the parameter: all of it, or a block of its elements.
            gradient: of the same shape; not to be changed.
            *state: the arrays of the slots, of the same shape and the dtype of data.

        Raises:
            NotImplementedError: the subclass did not write it.
        """
        raise NotImplementedError

    def update_rows(self, data: Array, gradient: RowSparse) -> bool:
        """The rule for a row-sparse gradient, if it leaves rows of zero gradient as they are.

        A rule with moments changes all rows at every step: it takes the dense gradient.

        Args:
            data: of the parameter (V, D).
            gradient: of some of its rows; not to be changed.

        Returns:
            Whether the rule did it; if not, `update` gets the dense gradient.
        """
        return False

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: "steps", "lr", "updates" of each parameter, and "arrays", which are no copies.

        The arrays have names: `0.m` is the slot m of the first parameter. Where there are groups, "groups" has how many
        parameters are in each, and by what its rate is `lr` multiplied.
        """
        arrays = {f"{i}.{slot}": a for i, state in enumerate(self.state) for slot, a in state.items()}
        state = {"steps": self.steps, "lr": self.lr, "updates": list(self.updates), "arrays": arrays}
        if self._groups != [(len(self.parameters), 1.0)]:
            state["groups"] = [list(group) for group in self._groups]
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Args:
            state: its arrays are copied, and take the dtypes of the parameters and their devices.

        Raises:
            ValueError: it is not whole, or belongs to other parameters or to another rule; nothing was changed.
        """
        missing = [name for name in ("steps", "lr", "updates", "arrays") if name not in state]
        if missing:
            raise ValueError(f"{type(self).__name__}: the state has no {', '.join(missing)}")
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
        if len(state["updates"]) != len(fresh):
            raise ValueError(
                f"{type(self).__name__}: the state is of {len(state['updates'])} parameters, not {len(fresh)}"
            )
        groups = [(int(size), float(factor)) for size, factor in state.get("groups", [(len(fresh), 1.0)])]
        sizes, own = ([size for size, _ in of] for of in (groups, self._groups))
        if sizes != own:
            raise ValueError(f"{type(self).__name__}: the state is of groups of {sizes} parameters, not of {own}")
        self._groups = groups
        self.steps, self.lr, self.updates = int(state["steps"]), float(state["lr"]), [int(t) for t in state["updates"]]
        # In the order of `slots`, in which `update` takes them; a parameter that had no gradient yet has no state.
        self.state = [{slot: slots[slot] for slot in self.slots} if slots else {} for slots in fresh]


class SGD(Optimizer):
    """Stochastic gradient descent: p ← p - lr g (Robbins and Monro, 1951).

    Rows of an embedding that were not looked up cost nothing.

    Args:
        parameters: see Optimizer.
        lr: learning rate, 0 or more.

    Raises:
        TypeError, ValueError: see Optimizer.
    """

    def update(self, data: Array, gradient: Array, *state: Array) -> None:
        """The rule p ← p - lr g, in place."""
        data -= self.rate * gradient

    def update_rows(self, data: Array, gradient: RowSparse) -> bool:
        """Only the rows that were looked up."""
        compact = gradient.coalesce()
        data[compact.rows] -= self.rate * compact.values
        return True


class Momentum(Optimizer):
    """SGD with momentum: v ← μ v + g, p ← p - lr v (Polyak, 1964), v = 0 at first.

    This is PyTorch's form; that of Sutskever et al. (2013), v ← μ v - lr g, p ← p + v, is the same while lr is.

    Args:
        parameters: see Optimizer.
        lr: learning rate, 0 or more.
        momentum: μ, not negative, as a rule below 1.

    Raises:
        TypeError, ValueError: see Optimizer; a negative momentum.
    """

    slots = ("v",)

    def __init__(self, parameters: Parameters, lr: float, momentum: float = 0.9) -> None:
        super().__init__(parameters, lr)
        if not momentum >= 0:
            raise ValueError(f"{type(self).__name__}: momentum must not be negative, but is {momentum}")
        self.momentum = momentum

    def update(self, data: Array, gradient: Array, *state: Array) -> None:
        """The rule v ← μ v + g, p ← p - lr v, in place."""
        (v,) = state
        v *= self.momentum
        v += gradient
        data -= self.rate * v


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015): m and v are running means of g and g², corrected for their start at zero.

    m ← β₁ m + (1 - β₁) g and v ← β₂ v + (1 - β₂) g², then p ← p - lr · m̂ / (√v̂ + ε), with m̂ = m / (1 - β₁ᵗ) and
    v̂ = v / (1 - β₂ᵗ); t counts the updates of p, so that a parameter that gets its first gradient late is corrected as
    from its own start.

    Args:
        parameters: see Optimizer.
        lr: learning rate, 0 or more: about the largest step of an element.
        betas: β₁ and β₂, in [0, 1).
        eps: ε, not negative.

    Raises:
        TypeError, ValueError: see Optimizer; betas or eps out of range.
    """

    slots = ("m", "v")

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, lr)
        beta1, beta2 = betas
        if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
            raise ValueError(f"{type(self).__name__}: betas must lie in [0, 1), but are {betas}")
        if not eps >= 0:
            raise ValueError(f"{type(self).__name__}: eps must not be negative, but is {eps}")
        self.betas, self.eps = betas, eps

    def update(self, data: Array, gradient: Array, *state: Array) -> None:
        """As above, with the corrections drawn out of the fraction."""
        m, v = state
        beta1, beta2 = self.betas
        correction1, correction2 = 1 - beta1**self.t, math.sqrt(1 - beta2**self.t)
        if has_kernels(data, gradient, m, v):
            eps, step = self.eps * correction2, self.rate * correction2 / correction1
            rates = 1.0 - beta1, float(beta2), 1.0 - beta2, eps, float(step)
            launch("adam.step", data.size, data, data, gradient, m, v, *rates)
            return
        # m += (1 - β₁)(g - m);  v ← β₂ v + (1 - β₂) g², in which a small g² is not lost beside a large v
        s = np.subtract(gradient, m, out=np.empty_like(m))  # an array also where m has no axes
        s *= 1 - beta1
        m += s
        np.multiply(gradient, gradient, out=s)
        s *= 1 - beta2
        v *= beta2
        v += s
        # m̂ / (√v̂ + ε) = (√(1 - β₂ᵗ) / (1 - β₁ᵗ)) · m / (√v + ε √(1 - β₂ᵗ))
        np.sqrt(v, out=s)
        s += self.eps * correction2
        np.divide(m, s, out=s)
        s *= self.rate * correction2 / correction1
        data -= s


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): p ← p (1 - lr λ) before the step of Adam.

    Args:
        parameters: see Optimizer; biases decay, too.
        lr: learning rate, 0 or more.
        betas: β₁ and β₂, in [0, 1).
        eps: ε, not negative.
        weight_decay: λ, not negative.

    Raises:
        TypeError, ValueError: see Adam; a negative weight_decay.
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps)
        if not weight_decay >= 0:
            raise ValueError(f"{type(self).__name__}: weight_decay must not be negative, but is {weight_decay}")
        self.weight_decay = weight_decay

    def update(self, data: Array, gradient: Array, *state: Array) -> None:
        """Decay, then Adam."""
        data *= 1 - self.rate * self.weight_decay
        super().update(data, gradient, *state)


def _in_groups(name: str, parameters: Parameters) -> list[dict[str, Any]]:
    """The groups, or one of all parameters, each of which comes once."""
    if isinstance(parameters, Variable):
        raise TypeError(f"{name}: one Variable was given; give a list of them, as in [w]")
    given: list[Any] = list(parameters)
    mappings = sum(isinstance(part, Mapping) for part in given)
    if 0 < mappings < len(given):
        raise TypeError(f"{name}: some parameters are in groups and some are not; put each into one")
    groups: list[dict[str, Any]] = []
    group_of: dict[int, int] = {}
    for g, group in enumerate(given if mappings else [{"params": given}]):
        where = f" of group {g}" if mappings else ""
        if "params" not in group or not group.keys() <= {"params", "lr"}:
            raise ValueError(f'{name}: a group has "params" and may have "lr", but group {g} has {list(group)}')
        if isinstance(group["params"], Variable):
            raise TypeError(f"{name}: the params{where} are one Variable; give a list of them, as in [w]")
        members = list(group["params"])
        if not members:
            raise ValueError(f"{name}: no parameters" + (f" in group {g}" if mappings else ""))
        for i, p in enumerate(members):
            if not isinstance(p, Variable):
                raise TypeError(f"{name}: parameter {i}{where} is no Variable, but of type {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError(f"{name}: parameter {i}{where} is no leaf, but the result of {p.creator.name}")
            if group_of.setdefault(id(p), g) != g:
                raise ValueError(
                    f"{name}: parameter {i}{where}, {p.name or 'without a name'} {p.shape}, is in group "
                    f"{group_of[id(p)]}, too: one parameter, tied or not, has one rate; leave it out of one of them"
                )
        groups.append({**group, "params": list({id(p): p for p in members}.values())})
    return groups


def _factor(name: str, rate: float, lr: float) -> float:
    """By what `lr` is multiplied for a group of this rate."""
    if not rate >= 0:
        raise ValueError(f"{name}: the lr of a group must not be negative, but is {rate}")
    if rate and not lr:
        raise ValueError(f"{name}: the lr of a group, {rate}, stays in proportion to lr, which must be above 0 then")
    return rate / lr if rate != lr else 1.0


def _blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """The same stretches of arrays of one shape, as views."""
    if arrays[0].size <= BLOCK or not all(isinstance(a, np.ndarray) and a.flags.c_contiguous for a in arrays):
        yield arrays
        return
    flat = [a.reshape(-1) for a in arrays]
    for start in range(0, flat[0].size, BLOCK):
        yield tuple(a[start : start + BLOCK] for a in flat)
