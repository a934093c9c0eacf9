"""Trainer: the training loop."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..autograd import Variable, detect_anomaly
from ..backend import beside, generator, is_array
from ..data import DataLoader
from ..nn import Module
from ..optim import Optimizer, clip_grad_norm_
from .callbacks import Callback
from .checkpoint import Checkpoint

Loss = Callable[..., Variable]


class Trainer:
    """Trains a model: batches, loss, backward, clipping, optimizer; with callbacks for everything else.

    Floating arrays of a batch are moved to the device of the parameters. Ids are not: embeddings and losses take them
    from the CPU, where they are checked without waiting for a GPU.

    `fit` and `plot` are those of *Deep Learning from Scratch 2*, ch. 1.

    Args:
        model: any Module.
        optimizer: of its parameters.
        loss: called with the arrays of a batch, returns the loss, a scalar Variable; by default the model itself.
        max_norm: above 0: the norm to which `clip_grad_norm_` clips the gradients; no clipping by default.
        callbacks: called in this order. A loss that is a Callback (`BPTT`) is the first of them.

    Attributes:
        model, optimizer, max_norm, callbacks: as given.
        loader: of the batches, from `fit` on.
        epochs, total_steps: how many the run has in all, those before a resumption included; 0 before `fit`.
        epoch: how many epochs are behind, those before a resumption included.
        batch: the arrays of the last step.
        loss: of the last step, a float; NaN before the first.
        grad_norm: of the last step, before clipping, a float; NaN before the first, and until that of a resumed run.
        history: by name, points [x, value], where x counts epochs: "loss" of each step, and what `record` adds.
        steps: how many steps were made, those before a resumption included.
        interrupted: whether Ctrl-C ended `fit` between two steps: all is whole, and can be saved.

    Raises:
        TypeError: one of the callbacks is none.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> from tinygrad_nlp import nn, optim
        >>> from tinygrad_nlp.data import DataLoader, spiral
        >>> from tinygrad_nlp.training import Trainer
        >>> model = nn.Sequential(nn.Linear(2, 10), tn.sigmoid, nn.Linear(10, 3))
        >>> loss = lambda x, t: nn.functional.cross_entropy(model(x), t)
        >>> trainer = Trainer(model, optim.SGD(model.parameters(), lr=1.0), loss)
        >>> trainer.fit(DataLoader(spiral(), batch_size=30), epochs=1)
        >>> trainer.steps
        10
    """

    loader: DataLoader

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loss: Loss | None = None,
        max_norm: float | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.model, self.optimizer, self.max_norm = model, optimizer, max_norm
        self._loss = model if loss is None else loss
        self.callbacks = [*([loss] if isinstance(loss, Callback) else []), *callbacks]
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                hint = "; write Schedule(…) around it" if hasattr(callback, "lr") or hasattr(callback, "step") else ""
                raise TypeError(f"Trainer: {type(callback).__name__} is no Callback{hint}")
        self.history: dict[str, list[list[float]]] = {}
        self.steps = self.epoch = self.epochs = self.total_steps = 0
        self.loss = self.grad_norm = math.nan
        self.interrupted = self._stop_asked = False
        self._carried_at_first = self._state_of_loss()[1]

    def fit(self, loader: DataLoader, epochs: int, resume: Checkpoint | None = None) -> None:
        """Train until `epochs` epochs are behind.

        Ctrl-C ends it between two steps, and another `fit` with the same loader goes on there; a second one at once.

        Args:
            loader: of batches, tuples of arrays.
            epochs: in all, those of an earlier `fit` and those before a resumption included.
            resume: a checkpoint to go on from.

        Raises:
            KeyboardInterrupt: it was interrupted; model, optimizer and loader are as after a whole step.
            ValueError: `resume` is of another model, rule or data set, or of other callbacks; `max_norm` is not above
                0.
            FloatingPointError: the loss or the gradient was NaN or infinite; the message names the step, the layer and
                the operation, and the parameters are those before the step.
        """
        goes_on = self.interrupted and loader is self.loader  # in the middle of an epoch
        self.loader, self.epochs, self.total_steps = loader, epochs, epochs * len(loader)
        if resume is not None:
            resume.restore(self.model, self.optimizer, loader, self.callbacks)
            self.history = {name: list(points) for name, points in resume.history.items()}
            losses = self.history.get("loss", [])
            self.steps, self.epoch = len(losses), resume.epoch
            self.loss = losses[-1][1] if losses else math.nan
        elif goes_on:  # behind the last batch; else the next loop would be the next epoch
            loader.load_state_dict(loader.state_dict())
        elif isinstance(self._loss, Callback):  # what it carries is not from the batch before the first
            self._loss.load_state_dict(self._carried_at_first)
        self.interrupted = self._stop_asked = False
        self.model.train()
        self._call("on_start")
        try:
            with self._interruptible():
                while self.epoch < epochs:
                    for batch in loader:
                        self._step(batch)
                        self._call("on_step")
                        self._stop_where_asked()
                    self.epoch += 1
                    self._call("on_epoch")
                    self._stop_where_asked()
        finally:
            self._call("on_stop")

    def _step(self, batch: tuple[Any, ...]) -> None:
        self.batch = tuple(map(self._beside_the_model, batch))
        before = self._state_of_loss()
        self.optimizer.zero_grad()
        loss = self._loss(*self.batch)
        self.loss = float(loss)
        if not math.isfinite(self.loss):
            raise FloatingPointError(self._explain(f"the loss is {self.loss}", before))
        loss.backward()
        self.grad_norm = clip_grad_norm_(
            self.optimizer.parameters, math.inf if self.max_norm is None else self.max_norm
        )
        if not math.isfinite(self.grad_norm):
            raise FloatingPointError(self._explain(f"the norm of the gradient is {self.grad_norm}", before))
        self.optimizer.step()
        self.steps += 1
        self.record("loss", self.loss)

    def _beside_the_model(self, x: Any) -> Any:
        """Numbers go to where the parameters are. Ids stay where they can be checked without waiting for a GPU."""
        return beside(x, self.optimizer.parameters[0].data) if is_array(x) and x.dtype.kind == "f" else x

    def _state_of_loss(self) -> tuple[Any, Any]:
        """What a step depends on, besides batch and weights: the random stream, and what the loss carries."""
        return generator().bit_generator.state, self._loss.state_dict() if isinstance(self._loss, Callback) else None

    def _explain(self, what: str, before: tuple[Any, Any]) -> str:
        """Make the step again, slowly, to find the operation at which it went wrong."""
        generator().bit_generator.state, carried = before
        if isinstance(self._loss, Callback):
            self._loss.load_state_dict(carried)
        self.optimizer.zero_grad()
        because = ""
        try:
            with detect_anomaly():
                self._loss(*self.batch).backward()
        except FloatingPointError as error:
            because = f": {error}"
        self.optimizer.zero_grad()
        return (
            f"{what} at step {self.steps + 1}{because}; the weights are those before the step. "
            "A smaller learning rate or max_norm may mend it"
        )

    def record(self, name: str, value: float) -> None:
        """Add a figure to the history, at the present step. `fit` must have begun.

        Args:
            name: of the series.
            value: a number, in the unit of the series.

        Raises:
            RuntimeError: `fit` has not begun.
        """
        self._has_begun("record")
        self.history.setdefault(name, []).append([self.steps / len(self.loader), value])

    def checkpoint(self, extra: Mapping[str, Any] | None = None) -> Checkpoint:
        """The state of the run, between two steps. `fit` must have begun.

        Args:
            extra: anything that JSON can hold; nothing by default.

        Returns:
            A checkpoint that holds the arrays themselves: save it before the next step.

        Raises:
            RuntimeError: `fit` has not begun.
        """
        self._has_begun("checkpoint")
        return Checkpoint.of(self.model, self.optimizer, self.loader, self.epoch, self.history, extra, self.callbacks)

    def _has_begun(self, method: str) -> None:
        if not hasattr(self, "loader"):
            raise RuntimeError(f"Trainer.{method}: fit has not begun; call it first, or from a callback")

    def plot(self) -> Any:
        """The learning curve, a matplotlib Figure: the loss, and what was measured after each epoch.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: no step was made yet.
        """
        from ..plot import learning_curve  # loads matplotlib

        return learning_curve(self.history)

    def _call(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self)

    def _stop_where_asked(self) -> None:
        if self._stop_asked:
            self.interrupted = True
            raise KeyboardInterrupt

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let Ctrl-C wait for the end of a step. Python delivers signals to the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupt(*_: Any) -> None:
            self._stop_asked = True
            signal.signal(signal.SIGINT, before)

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
