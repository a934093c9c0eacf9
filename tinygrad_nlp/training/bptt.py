"""Back-propagation through time for language models: full, truncated, and truncated at random; and perplexity.

A language model here is any Module that is called with ids (N, T) and a state, None at the start of a text, and returns
the scores of the ids that follow (N, T, V) and the state after the last step. It may have a method `loss(ids, targets,
state)` besides, which returns the mean cross-entropy of these scores and the same state; then that is called, and need
not hold all scores at once (`nn.functional.linear_cross_entropy`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..autograd import Variable, no_grad
from ..autograd.nested import map_nested
from ..backend import asnumpy, beside, generator
from ..data import SequentialWindows
from ..data.windows import IGNORE
from ..nn import Module
from ..nn.functional import cross_entropy
from .callbacks import Callback


class BPTT(Callback):
    """The loss of a language model over windows that follow each other: a Trainer's `loss`, with `SequentialWindows`.

    The state is carried from batch to batch and the graph is cut between them: truncated back-propagation through time.
    Each epoch begins with no state. In a checkpoint the state is saved too.

    Within a batch there is full back-propagation, or with `window` cuts after every so many steps: each of them lets
    the gradient pass with probability `keep`, and then 1/keep of it. So its expectation is the full gradient (*Dive
    into Deep Learning*, 9.7.1; Tallec and Ollivier, 2017), while the graph is cut to pieces of random length.

    Args:
        model: a language model.
        window: steps between two places of a cut; by default there are none within a batch.
        keep: π in [0, 1]: 0 always cuts, 1 never does.

    Attributes:
        state: after the last batch, without a graph; None at the start of an epoch.

    Raises:
        ValueError: a window below 1, or `keep` outside [0, 1].
    """

    def __init__(self, model: Module, window: int | None = None, keep: float = 0.0) -> None:
        if window is not None and window < 1:
            raise ValueError(f"BPTT: window must be at least 1, not {window}")
        if not 0 <= keep <= 1:
            raise ValueError(f"BPTT: keep must lie in [0, 1], not {keep}")
        self.model, self.window, self.keep = model, window, keep
        self.state: Any = None

    def __call__(self, x: np.ndarray, y: np.ndarray) -> Variable:
        """The mean loss of one batch, (N, T) and (N, T)."""
        window = self.window or x.shape[1]
        factors = random_factors(-(-x.shape[1] // window) - 1, self.keep)
        loss, state = loss_over_windows(self.model, x, y, self.state, window, factors)
        self.state = map_nested(_detach, state)
        return loss

    def on_epoch(self, trainer: Any) -> None:
        """Forget the state."""
        self.state = None

    def state_dict(self) -> dict[str, Any]:
        """The carried state: its form, and its arrays."""
        arrays: dict[str, Any] = {}
        return {"form": _pack(self.state, arrays), "arrays": arrays}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Args:
            state: its floating arrays are moved to where the model is, ids to the CPU.
        """
        weight = next(iter(self.model.parameters())).data
        arrays = {
            name: beside(array, weight) if array.dtype.kind == "f" else asnumpy(array)
            for name, array in state.get("arrays", {}).items()
        }
        self.state = _unpack(state["form"], arrays)


def loss_over_windows(
    model: Module, x: np.ndarray, y: np.ndarray, state: Any, window: int, factors: Sequence[float]
) -> tuple[Variable, Any]:
    """The mean loss of a batch that the model reads window by window, with the gradients between them multiplied.

    Args:
        model: a language model.
        x: ids (N, T).
        y: those that follow (N, T); -100 does not count.
        state: before the first step; its graph is not cut.
        window: steps of a window; the last may be shorter.
        factors: by what the gradient is multiplied where it goes back from a window into the one before, one for each
            but the first: 0 cuts, and with 1 for all of them this is full back-propagation.

    Returns:
        The loss, and the state after the last step, with its graph.

    Raises:
        ValueError: another number of factors.
    """
    starts = range(0, x.shape[1], window)
    if len(factors) != len(starts) - 1:
        raise ValueError(
            f"loss_over_windows: {len(starts)} windows need {len(starts) - 1} factors between them, not {len(factors)}"
        )
    counted = y != IGNORE
    total: Any = 0.0
    for start, factor in zip(starts, [1.0, *factors], strict=True):
        steps = slice(start, start + window)
        state = map_nested(functools.partial(_scale_gradient, factor=factor), state)
        loss, state = _loss(model, x[:, steps], y[:, steps], state)
        share = counted[:, steps].sum() / max(counted.sum(), 1)
        total = loss if len(starts) == 1 else total + loss * float(share)
    return total, state


def random_factors(count: int, keep: float) -> list[float]:
    """Factors of randomised truncation: ξ = 1/π with probability π, else 0, so that its expectation is 1.

    Args:
        count: how many.
        keep: π in [0, 1]; 0 gives zeros.

    Returns:
        So many of them, drawn from the library's stream; nothing is drawn where π is 0 or 1.
    """
    if keep in (0, 1):
        return [float(keep)] * count
    return ((generator().random(count) < keep) / keep).tolist()


def perplexity(model: Module, ids: np.ndarray, batch_size: int = 10, num_steps: int = 100) -> float:
    """exp of the mean loss over a whole text, of which every id but the first is foretold once.

    The model reads in `batch_size` places at once, with the state carried from window to window, in evaluation mode and
    without a graph. Each place begins with no state, which with few of them costs next to nothing; 1 is exact.

    Args:
        model: a language model; it is left in the mode in which it was.
        ids: the text (L,), L ≥ 2.
        batch_size: places; fewer in a text that is too short for so many.
        num_steps: steps that are computed at once: a matter of speed and memory only.

    Returns:
        The perplexity.

    Raises:
        ValueError: a text of fewer than two ids.
        TypeError: ids that are no integers.
    """
    loader = SequentialWindows(ids, max(1, min(batch_size, len(ids) - 1)), num_steps)
    total, state, training = 0.0, None, model.training
    model.eval()
    try:
        with no_grad():
            for x, y in loader:
                loss, state = _loss(model, x, y, state)
                total += float(loss) * int((y != IGNORE).sum())
    finally:
        model.train(training)
    return float(np.exp(total / (len(ids) - 1)))


def _loss(model: Module, x: np.ndarray, y: np.ndarray, state: Any) -> tuple[Any, Any]:
    """The mean loss of a batch, and the state behind it: by the model's own method, where it has one."""
    if hasattr(model, "loss"):
        return model.loss(x, y, state)
    scores, state = model(x, state)
    return cross_entropy(scores, y), state


def _detach(part: Any) -> Any:
    return part.detach() if isinstance(part, Variable) else part


def _scale_gradient(part: Any, factor: float) -> Any:
    """The same values, with the gradient that comes back multiplied."""
    if factor == 1 or not isinstance(part, Variable):
        return part
    detached: Any = part.detach()
    return detached if factor == 0 else detached + (part - detached) * factor


def _pack(state: Any, arrays: dict[str, Any]) -> Any:
    """The form of a state in types that JSON knows, with numbers in the place of its arrays."""
    if isinstance(state, dict):
        return {"dict": {name: _pack(part, arrays) for name, part in state.items()}}
    if isinstance(state, tuple | list):
        return [_pack(part, arrays) for part in state]
    if not hasattr(state, "shape"):
        return {"value": state}
    name = str(len(arrays))
    arrays[name] = state.data if isinstance(state, Variable) else state
    return {"array": name}


def _unpack(form: Any, arrays: Mapping[str, Any]) -> Any:
    if isinstance(form, list):
        return tuple(_unpack(part, arrays) for part in form)
    if "dict" in form:
        return {name: _unpack(part, arrays) for name, part in form["dict"].items()}
    return arrays[form["array"]] if "array" in form else form["value"]
