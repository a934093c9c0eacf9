"""What happens beside the training steps: a progress bar, evaluation, checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

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
            trainer: its `loader.epoch` counts this one, too.
        """

    def on_stop(self, trainer: Trainer) -> None:
        """After the last step of `fit`, also when it was interrupted or failed.

        Args:
            trainer: its `interrupted` tells Ctrl-C from the end.
        """


class ProgressBar(Callback):
    """A bar over all epochs with the loss, the newest evaluation, the speed, and the time left.

    Args:
        count: how much a batch holds of what the speed is told in; by default the elements of its last array.
        unit: the name of that.
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
        speed = self.counted / max(self.bar.format_dict["elapsed"], 1e-9)
        newest = {name: f"{points[-1][1]:.4g}" for name, points in trainer.history.items() if name != "loss"}
        self.bar.set_description(f"epoch {trainer.loader.epoch + 1}/{trainer.epochs}", refresh=False)
        self.bar.set_postfix(
            {"loss": f"{trainer.loss:.4f}", **newest, f"{self.unit}/s": f"{speed:,.0f}"}, refresh=False
        )
        self.bar.update()

    def on_epoch(self, trainer: Trainer) -> None:
        """Leave a line for an epoch that was evaluated, with its mean loss."""
        epoch = trainer.history["loss"][-len(trainer.loader) :]
        loss = sum(value for _, value in epoch) / len(epoch)
        measured = {name: points[-1][1] for name, points in trainer.history.items() if name != "loss"}
        if measured:
            text = "".join(f"  {name} {value:.5g}" for name, value in measured.items())
            self.bar.write(f"epoch {trainer.loader.epoch}/{trainer.epochs}  loss {loss:.5f}{text}")

    def on_stop(self, trainer: Trainer) -> None:
        """Close it."""
        self.bar.close()


class Evaluation(Callback):
    """Measures the model after each epoch, in evaluation mode, and puts the figures in the history.

    Args:
        function: returns figures by name.
    """

    def __init__(self, function: Callable[[], Mapping[str, float]]) -> None:
        self.function = function

    def on_epoch(self, trainer: Trainer) -> None:
        """Measure."""
        trainer.model.eval()
        try:
            for name, value in self.function().items():
                trainer.record(name, float(value))
        finally:
            trainer.model.train()


class SaveCheckpoint(Callback):
    """Saves a checkpoint after each epoch, and when the run is interrupted.

    Args:
        path: of the file.
        extra: goes into `Checkpoint.extra`.
    """

    def __init__(self, path: str | os.PathLike[str], extra: Mapping[str, Any] | None = None) -> None:
        self.path, self.extra = path, extra

    def on_epoch(self, trainer: Trainer) -> None:
        """Save."""
        trainer.checkpoint(self.extra).save(self.path)

    def on_stop(self, trainer: Trainer) -> None:
        """Save, where the run was interrupted between two steps; a run that failed keeps the last good checkpoint."""
        if trainer.interrupted:
            trainer.checkpoint(self.extra).save(self.path)
