"""What a thread is doing: whether it records a graph, and inside which layers and time step it is.

Each thread has its own modes: two threads can train two models, and one can evaluate while another trains.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import CodeType
from typing import NamedTuple

BACKWARD = "backward"  # the name of the scope in which create_graph records the backward of an operation


class Scope(NamedTuple):
    """One layer (or time step) that is running, and the line that called it.

    Attributes:
        outer: the scope around it, or None.
        name: of the layer; of a time step, its number.
        code, instruction: the code that called it, and the place in that, in bytes.
    """

    outer: Scope | None
    name: str | int
    code: CodeType
    instruction: int

    def path(self) -> tuple[str | int, ...]:
        """The names from the outermost scope to this one; time steps are integers."""
        names: list[str | int] = []
        scope: Scope | None = self
        while scope is not None:
            names.append(scope.name)
            scope = scope.outer
        return tuple(reversed(names))


def in_layer(scope: Scope | None) -> str:
    """For messages, behind the name of what failed: " in encoder.lstm.t=3".

    Args:
        scope: the innermost one, or None outside all layers.

    Returns:
        The text; "" for None.
    """
    if scope is None:
        return ""
    return " in " + ".".join(f"t={name}" if isinstance(name, int) else name for name in scope.path())


class _Modes(threading.local):
    recording: bool = True
    anomaly: bool = False
    scope: Scope | None = None


modes = _Modes()


@contextmanager
def no_grad() -> Iterator[None]:
    """Record no graph inside: results carry no gradient and keep no arrays alive. As `torch.no_grad`.

    Holds for this thread only. As a decorator it holds within the function.

    Example:
        >>> import tinygrad_nlp as tn
        >>> w = tn.Variable([1.0], requires_grad=True)
        >>> with tn.no_grad():
        ...     (w * 2).requires_grad
        False
    """
    yield from _recording(False)


def inference_mode() -> AbstractContextManager[None]:
    """As `no_grad()`, under PyTorch's other name for it.

    PyTorch also leaves out version counters here, and then refuses results in a later graph. This library has none to
    leave out: what is made inside is an ordinary constant, which may be used anywhere.
    """
    return no_grad()


@contextmanager
def enable_grad() -> Iterator[None]:
    """Record a graph inside, also within `no_grad()`. As `torch.enable_grad`; holds for this thread only."""
    yield from _recording(True)


def _recording(value: bool) -> Iterator[None]:
    outer = modes.recording
    modes.recording = value
    try:
        yield
    finally:
        modes.recording = outer


@contextmanager
def scope(name: str | int) -> Iterator[None]:
    """Give the operations inside a name, or (an integer) a time step, for drawings and error messages.

    Modules do this for themselves; a loop over time can do it for its steps, so that a drawing collapses them.

    Args:
        name: of a layer; or an integer, the number of a time step.

    Example:
        >>> import tinygrad_nlp as tn
        >>> h = tn.Variable([1.0], requires_grad=True)
        >>> for t in range(2):
        ...     with tn.scope("cell"), tn.scope(t):
        ...         h = tn.tanh(h)
        >>> print(h.creator.describe().partition(" (")[0])
        tanh in cell.t=1
    """
    frame = sys._getframe(2)  # 0 is this generator, 1 contextlib, 2 the `with` statement
    outer = modes.scope
    modes.scope = Scope(outer, name, frame.f_code, frame.f_lasti)
    try:
        yield
    finally:
        modes.scope = outer
