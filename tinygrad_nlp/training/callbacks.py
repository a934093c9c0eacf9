"""What happens beside the training steps: a progress bar, evaluation, schedules, checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from ..optim import LRScheduler, ReduceLROnPlateau
from .checkpoint import save_weights

if TYPE_CHECKING:
    from .trainer import Trainer


class Callback:
    """Does something at the joints of a training run; a subclass overrides what it needs."""

    def on_start(self, trainer: Trainer) -> None:
        """Before the first step of `fit`.

        Args:
            trainer: at work.
        """

    def on_step(self, trainer: Trainer) -> None:
        """After a step.

        Args:
            trainer: its `batch` and `loss` are those of the step.
        """

    def on_epoch(self, trainer: Trainer) -> None:
        """After an epoch.

        Args:
            trainer: its `epoch` counts this one, too.
        """

    def on_stop(self, trainer: Trainer) -> None:
        """After the last step of `fit`, also when it was interrupted or failed.

        Args:
            trainer: its `interrupted` tells Ctrl-C from the end.
        """

    def state_dict(self) -> dict[str, Any]:
        """What the callback needs to go on in a resumed run; it goes into checkpoints. Empty by default.

        Values are what JSON can hold, but for those under "arrays", which are arrays by name.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Args:
            state: of a callback of this class.
        """


class ProgressBar(Callback):
    """A bar over all epochs with the loss, the newest evaluation, the speed per second, and the time left.

    It counts steps. A run that has nothing left shows none.

    Args:
        count: called with the arrays of a batch, returns how much it holds of what the speed is told in; by default the
            number of elements of the last one.
        unit: the name of that, in the plural.
    """

    def __init__(self, count: Callable[..., int] | None = None, unit: str = "tokens") -> None:
        self.count, self.unit = count or (lambda *batch: batch[-1].size), unit

    def on_start(self, trainer: Trainer) -> None:
        """Open the bar, at the step where a resumed run goes on."""
        self.counted = 0
        total, done = trainer.total_steps, trainer.steps
        self.bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, disable=done >= total)

    def on_step(self, trainer: Trainer) -> None:
        """Move on."""
        self.counted += self.count(*trainer.batch)
        self.bar.set_description(f"epoch {trainer.epoch + 1}/{trainer.epochs}", refresh=False)
        self._show(trainer)
        self.bar.update()

    def _show(self, trainer: Trainer) -> None:
        """Set what stands behind the bar."""
        speed = self.counted / max(self.bar.format_dict["elapsed"], 1e-9)
        newest = {name: f"{points[-1][1]:.4g}" for name, points in trainer.history.items() if name != "loss"}
        self.bar.set_postfix(
            {"loss": f"{trainer.loss:.4f}", **newest, f"{self.unit}/s": f"{speed:,.0f}"}, refresh=False
        )

    def on_epoch(self, trainer: Trainer) -> None:
        """Leave a line for an epoch that was evaluated, with its mean loss, and its figures behind the bar."""
        epoch = trainer.history["loss"][-len(trainer.loader) :]
        loss = sum(value for _, value in epoch) / len(epoch)
        measured = {name: points[-1][1] for name, points in trainer.history.items() if name != "loss"}
        if measured:
            text = "".join(f"  {name} {value:.5g}" for name, value in measured.items())
            self.bar.write(f"epoch {trainer.epoch}/{trainer.epochs}  loss {loss:.5f}{text}")
            self._show(trainer)

    def on_stop(self, trainer: Trainer) -> None:
        """Close it."""
        self.bar.close()


class Evaluation(Callback):
    """Measures the model after each epoch, in evaluation mode, and puts the figures in the history.

    Args:
        function: called without arguments, returns figures by name, numbers in any unit.
    """

    def __init__(self, function: Callable[[], Mapping[str, float]]) -> None:
        self.function = function

    def on_epoch(self, trainer: Trainer) -> None:
        """Measure; the model is in training mode afterwards, also where measuring failed."""
        trainer.model.eval()
        try:
            for name, value in self.function().items():
                trainer.record(name, float(value))
        finally:
            trainer.model.train()


class Schedule(Callback):
    """Sets the learning rate: after each step, or after each epoch by a figure that was measured.

    Args:
        scheduler: of the trainer's optimizer. A `ReduceLROnPlateau` looks at `monitor`, the others count steps.
        monitor: name of the figure; the Evaluation that measures it stands before this in the list of callbacks.

    Raises:
        TypeError: a `ReduceLROnPlateau` without `monitor`, or another schedule with it.
    """

    def __init__(self, scheduler: LRScheduler | ReduceLROnPlateau, monitor: str | None = None) -> None:
        if isinstance(scheduler, ReduceLROnPlateau) != (monitor is not None):
            given = f"{type(scheduler).__name__} and monitor={monitor!r}"
            raise TypeError(f"Schedule: a ReduceLROnPlateau needs a monitor, and others take none; got {given}")
        self.scheduler, self.monitor = scheduler, monitor

    def on_step(self, trainer: Trainer) -> None:
        """Set the rate for the next step."""
        if isinstance(self.scheduler, LRScheduler):
            self.scheduler.step()

    def on_epoch(self, trainer: Trainer) -> None:
        """Look at the newest figure.

        Raises:
            ValueError: none is called `monitor`.
        """
        if isinstance(self.scheduler, ReduceLROnPlateau) and self.monitor is not None:
            self.scheduler.step(_newest(trainer, self.monitor))

    def state_dict(self) -> dict[str, Any]:
        """The scheduler's."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The scheduler's.

        Args:
            state: what `state_dict` gave.

        Raises:
            ValueError: it is of another rule.
        """
        self.scheduler.load_state_dict(state)


class KeepBest(Callback):
    """Keeps the weights of the epoch with the best figure in a file of their own, for `load_weights`.

    Args:
        path: of the file.
        monitor: name of the figure; the Evaluation that measures it stands before this in the list of callbacks.
        mode: "min" where less is better, or "max".

    Attributes:
        best: the best figure so far, or None.

    Raises:
        ValueError: another mode.
    """

    def __init__(self, path: str | os.PathLike[str], monitor: str, mode: str = "min") -> None:
        if mode not in ("min", "max"):
            raise ValueError(f'KeepBest: mode must be "min" or "max", not {mode!r}')
        self.path, self.monitor, self.mode = path, monitor, mode
        self.best: float | None = None

    def on_epoch(self, trainer: Trainer) -> None:
        """Save, where it is the best; NaN never is.

        Raises:
            ValueError: no figure is called `monitor`.
            OSError: the file cannot be written; the one before stays.
        """
        value = _newest(trainer, self.monitor)
        sign = 1 if self.mode == "min" else -1
        if sign * value < sign * self.best if self.best is not None else value == value:
            save_weights(trainer.model, self.path)
            self.best = value

    def state_dict(self) -> dict[str, Any]:
        """The best figure."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The best figure.

        Args:
            state: what `state_dict` gave.
        """
        self.best = state["best"]


def _newest(trainer: Trainer, name: str) -> float:
    if name not in trainer.history:
        known = ", ".join(repr(other) for other in trainer.history)
        raise ValueError(f"no figure is called {name!r}, but {known}: the Evaluation that measures it must come before")
    return trainer.history[name][-1][1]


class SaveCheckpoint(Callback):
    """Saves a checkpoint after each epoch, and when the run is interrupted. It comes last in the list of callbacks.

    A run that begins saves one, too: whatever ends it, what lies there is its own, and not that of a run before it.
    Weights with a NaN or Inf among them are not saved: the checkpoint before stays.

    Args:
        path: of the file.
        extra: goes into `Checkpoint.extra`: anything that JSON can hold; nothing by default.
    """

    def __init__(self, path: str | os.PathLike[str], extra: Mapping[str, Any] | None = None) -> None:
        self.path, self.extra = path, extra

    def on_start(self, trainer: Trainer) -> None:
        """Save, where the run begins.

        Raises:
            OSError: the file cannot be written; the one before stays.
        """
        if not trainer.steps:
            self.on_epoch(trainer)

    def on_epoch(self, trainer: Trainer) -> None:
        """Save.

        Raises:
            FloatingPointError: weights are not finite; the message names the parameter.
            OSError: the file cannot be written; the one before stays.
        """
        for name, array in trainer.model.state_dict().items():
            if not np.isfinite(array).all():
                raise FloatingPointError(
                    f"the weights {name} are not finite after step {trainer.steps}, and not saved: "
                    f"{self.path} is as it was. A smaller learning rate or max_norm may mend it"
                )
        trainer.checkpoint(self.extra).save(self.path)

    def on_stop(self, trainer: Trainer) -> None:
        """Save, where the run was interrupted between two steps; a run that failed keeps the last good checkpoint."""
        if trainer.interrupted:
            self.on_epoch(trainer)
