"""Learning-rate schedules, with PyTorch's names and formulas.

A schedule sets `optimizer.lr`; its `step()` belongs behind each `optimizer.step()` (`ReduceLROnPlateau` behind each
evaluation), and time is counted in these steps. In a Trainer the callback `Schedule` calls it. Rates are computed from
the number of steps alone, not from one another, so that a resumed run has the very same. Where the optimizer has groups
of parameters, their rates keep their proportions to `optimizer.lr`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from .optimizer import Optimizer


class LRScheduler:
    """A learning rate that depends on the number of steps; a subclass says how in `lr_at`.

    Args:
        optimizer: its `lr` at this moment is `base_lr`.

    Attributes:
        optimizer: whose rate is set.
        base_lr: the learning rate that the schedule was made with.
        steps: how often `step` was called.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.base_lr, self.steps = optimizer, optimizer.lr, 0
        optimizer.lr = self.lr_at(0)

    def lr_at(self, step: int) -> float:
        """The learning rate of the schedule at one time.

        Args:
            step: how many steps were made, from 0.

        Returns:
            The rate of the next, a float.

        Raises:
            NotImplementedError: the subclass did not write it.
        """
        raise NotImplementedError(f"{type(self).__name__}.lr_at")

    def step(self) -> None:
        """Set the rate of the next step of the optimizer."""
        self.steps += 1
        self.optimizer.lr = self.lr_at(self.steps)

    def state_dict(self) -> dict[str, Any]:
        """The rule's name and the number of steps."""
        return {"rule": type(self).__name__, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go where another schedule of this rule stood, and set the rate. Settings stay those of this one.

        Args:
            state: what `state_dict` gave.

        Raises:
            ValueError: it is of another rule.
        """
        _check_rule(self, state)
        self.steps = int(state["steps"])
        self.optimizer.lr = self.lr_at(self.steps)


class LambdaLR(LRScheduler):
    """base_lr · f(t), with any function of the number of steps.

    Args:
        optimizer: see LRScheduler.
        lr_lambda: f, from t = 0, 1, 2, … to a factor.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> from tinygrad_nlp import optim
        >>> optimizer = optim.SGD([tn.Variable(np.zeros(1), requires_grad=True)], lr=2.0)
        >>> schedule = optim.LambdaLR(optimizer, lambda t: 1 / (1 + t))
        >>> for _ in range(3):
        ...     schedule.step()
        >>> optimizer.lr
        0.5
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]) -> None:
        self.lr_lambda = lr_lambda
        super().__init__(optimizer)

    def lr_at(self, step: int) -> float:
        """base_lr · f(t)."""
        return self.base_lr * self.lr_lambda(step)


class StepLR(LRScheduler):
    """base_lr · γ^⌊t / step_size⌋: the rate falls at every `step_size`-th step.

    Args:
        optimizer: see LRScheduler.
        step_size: steps between two falls, 1 or more; `epochs * len(loader)` for epochs.
        gamma: γ, what the rate is multiplied by.

    Raises:
        ValueError: `step_size` is less than 1.
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: step_size must be at least 1, not {step_size}")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def lr_at(self, step: int) -> float:
        """base_lr · γ^⌊t / step_size⌋."""
        return self.base_lr * self.gamma ** (step // self.step_size)


class LinearLR(LRScheduler):
    """A straight line from base_lr · start_factor to base_lr · end_factor over `total_iters` steps; then it stays.

    Args:
        optimizer: see LRScheduler.
        start_factor: at t = 0.
        end_factor: at t = total_iters and after.
        total_iters: steps that it takes, 1 or more; `epochs * len(loader)` for a whole run.

    Raises:
        ValueError: `total_iters` is less than 1.
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        if total_iters < 1:
            raise ValueError(f"LinearLR: total_iters must be at least 1, not {total_iters}")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer)

    def lr_at(self, step: int) -> float:
        """base_lr · (start + (end - start) · min(t, total) / total)."""
        rise = self.end_factor - self.start_factor
        return self.base_lr * (self.start_factor + rise * min(step, self.total_iters) / self.total_iters)


class CosineAnnealingLR(LRScheduler):
    """eta_min + (base_lr - eta_min) (1 + cos(π t / T_max)) / 2 (Loshchilov and Hutter, 2017).

    Args:
        optimizer: see LRScheduler.
        T_max: steps down to `eta_min`, 1 or more; beyond them the rate rises again, as in PyTorch.
        eta_min: the lowest rate.

    Raises:
        ValueError: `T_max` is less than 1.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        if T_max < 1:
            raise ValueError(f"CosineAnnealingLR: T_max must be at least 1, not {T_max}")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def lr_at(self, step: int) -> float:
        """Half a cosine."""
        return self.eta_min + (self.base_lr - self.eta_min) * (1 + math.cos(math.pi * step / self.T_max)) / 2


class Warmup(LRScheduler):
    """Another schedule after a start in which the rate rises in a straight line (Vaswani et al., 2017).

    Args:
        schedule: what comes after; its own `step` is not called.
        warmup_steps: t of them have the rate `schedule.lr_at(0)` · t / warmup_steps, t = 1, 2, …

    Raises:
        ValueError: `warmup_steps` is less than 1.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> from tinygrad_nlp import optim
        >>> optimizer = optim.SGD([tn.Variable(np.zeros(1), requires_grad=True)], lr=1.0)
        >>> schedule = optim.Warmup(optim.StepLR(optimizer, step_size=1, gamma=0.5), warmup_steps=2)
        >>> [schedule.lr_at(t) for t in range(5)]
        [0.5, 1.0, 1.0, 0.5, 0.25]
    """

    def __init__(self, schedule: LRScheduler, warmup_steps: int) -> None:
        if warmup_steps < 1:
            raise ValueError(f"Warmup: warmup_steps must be at least 1, not {warmup_steps}")
        self.schedule, self.warmup_steps = schedule, warmup_steps
        super().__init__(schedule.optimizer)

    def lr_at(self, step: int) -> float:
        """A straight line, then the schedule from its own beginning."""
        if step < self.warmup_steps:
            return self.schedule.lr_at(0) * (step + 1) / self.warmup_steps
        return self.schedule.lr_at(step - self.warmup_steps)


class ReduceLROnPlateau:
    """Multiplies the learning rate by `factor` where a figure has not become better for more than `patience` times.

    Args:
        optimizer: whose rate is set.
        mode: "min" where less is better, or "max".
        factor: in (0, 1).
        patience: how many evaluations without improvement are borne.
        threshold: better means by more than this part of the best figure so far.
        min_lr: the rate never falls below.

    Attributes:
        best: the best figure so far, or None.

    Raises:
        ValueError: another mode, or a factor outside (0, 1).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        min_lr: float = 0.0,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f'ReduceLROnPlateau: mode must be "min" or "max", not {mode!r}')
        if not 0 < factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor must lie in (0, 1), not {factor}")
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.min_lr = threshold, min_lr
        self.best: float | None = None
        self.bad = 0  # evaluations since the best one, or since the last fall

    def step(self, value: float) -> None:
        """Look at a figure, and let the rate fall where it is time. NaN is no improvement.

        Args:
            value: the newest evaluation.
        """
        if self._is_better(value):
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.bad > self.patience:
            self.optimizer.lr = max(self.optimizer.lr * self.factor, min(self.min_lr, self.optimizer.lr))
            self.bad = 0

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        margin = self.threshold * abs(self.best) if math.isfinite(self.best) else 0.0  # better than infinite is finite
        return value < self.best - margin if self.mode == "min" else value > self.best + margin

    def state_dict(self) -> dict[str, Any]:
        """The rule's name, the best figure, and how long ago it was; the rate is in the optimizer's state."""
        return {"rule": type(self).__name__, "best": self.best, "bad": self.bad}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go where another one stood.

        Args:
            state: what `state_dict` gave.

        Raises:
            ValueError: it is of another rule.
        """
        _check_rule(self, state)
        self.best, self.bad = state["best"], state["bad"]


def _check_rule(schedule: object, state: Mapping[str, Any]) -> None:
    own = type(schedule).__name__
    if state["rule"] != own:
        raise ValueError(f"this is the state of a run with {state['rule']}, the schedule is {own}")
