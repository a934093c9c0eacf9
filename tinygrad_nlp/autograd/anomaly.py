"""Finds the operation that made the first NaN or Inf, and saved arrays that were changed behind the library's back."""

from __future__ import annotations

import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import Array, asnumpy, is_array
from .modes import Scope, enable_grad, modes, no_grad
from .sparse import RowSparse

if TYPE_CHECKING:
    from .engine import Gradient
    from .function import Function

# How many threads are inside detect_anomaly(). Every operation reads it, as that costs less than to ask for the thread.
active = 0
_lock = threading.Lock()


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Look at all that is computed inside, and raise at the first NaN or Inf, in forward or in backward.

    The error names the operation, its layers and time step, and the user's line that made it. A fused operation that
    gave a NaN is computed again by its definition, so that the step and the plain operation within it are named.

    An Inf that an operation was given, and hands on, is no anomaly in forward: masks are made so. A NaN always is.

    Saved arrays are also held to a checksum: one that was written to between forward and backward behind the library's
    back (`x.data[0] = 1`) is an error too. All this takes time and is for the search for an error only; operations on
    arrays alone, without a Variable, are not looked at. As `torch.autograd.detect_anomaly`, which looks at backward
    only.

    Raises:
        FloatingPointError: there was a NaN, or an Inf.
        RuntimeError: a saved array was changed.

    Example:
        >>> import tinygrad_nlp as tn
        >>> x = tn.Variable([1.0, 800.0], requires_grad=True)
        >>> with tn.detect_anomaly(), tn.scope("head"):
        ...     y = tn.exp(x)
        Traceback (most recent call last):
        FloatingPointError: exp in head (<doctest ...>:2): forward gave Inf at (1,) of its output of shape (2,)
    """
    global active
    outer = modes.anomaly
    modes.anomaly = True
    with _lock:
        active += 1
    try:
        with np.errstate(all="ignore"):  # NumPy's warnings say less than the error will
            yield
    finally:
        with _lock:
            active -= 1
        modes.anomaly = outer


def after_forward(function: Function, arguments: list[Any], outputs: Any, recording: bool) -> None:
    """Raise where outputs hold what they should not; else remember the checksums of what was saved.

    Args:
        function: that has just been applied.
        arguments: to what: arrays, and whatever else was passed.
        outputs: an array, or a tuple of them.
        recording: whether it is a node of a graph.

    Raises:
        FloatingPointError: there is a NaN, or an Inf that was not among the arguments.
    """
    if not modes.anomaly:
        return
    for output in outputs if isinstance(outputs, tuple) else (outputs,):
        found = _anomaly(output)
        if found is None:
            continue
        given = [i for i, x in enumerate(arguments) if _holds(x, found[:3])]
        if found.startswith("Inf") and (given or any(_holds(x, "Inf") for x in function.made_with())):
            continue
        if not recording:
            _locate(function)
        if hasattr(function, "definition"):
            with _inside(function), no_grad():
                function.definition(*_as_variables(arguments))  # raises, and names the very operation
        because = f"; argument {given[0]} held it already" if given else ""
        raise FloatingPointError(
            f"{function.describe()}: forward gave {found} of its output of shape {np.shape(output)}{because}"
        )
    if recording:
        function.checksums = _checksums(function)  # type: ignore[attr-defined]


def before_backward(function: Function) -> None:
    """Raise where a saved array is no longer what it was.

    Args:
        function: of which the backward is about to run.

    Raises:
        RuntimeError: a checksum differs from that taken after forward.
    """
    before = getattr(function, "checksums", None)  # None where forward ran outside
    if before is not None and before != _checksums(function):
        raise RuntimeError(
            f"{function.describe()}: an array that it saved for backward was changed since, not through the library "
            "(as in x.data[0] = 1); run backward before the change, or change a copy"
        )


def after_backward(function: Function, received: Gradient, gradients: tuple[Gradient, ...]) -> None:
    """Raise where a gradient holds what it should not.

    Args:
        function: of which the backward has just run.
        received: the gradient of its output; of several outputs, a list.
        gradients: what it returned, one for each input.

    Raises:
        FloatingPointError: there is a NaN or an Inf.
    """
    for position, (gradient, edge) in enumerate(zip(gradients, function.edges, strict=True)):
        found = None if edge is None else _anomaly(gradient)
        if found is None:
            continue
        if hasattr(function, "definition"):
            with _inside(function), enable_grad():
                _differentiate_definition(function, received)  # raises, and names the very operation
        given = any(_anomaly(g) for g in (received if isinstance(received, list) else (received,)))
        because = "; the gradient that came to it was not finite" if given else ""
        raise FloatingPointError(
            f"{function.describe()}: backward gave {found} of the gradient of input {position}, "
            f"of shape {gradient.shape}{because}"
        )


def _anomaly(x: Any) -> str | None:
    """The first NaN, else the first Inf, with its index: "NaN at (0, 2)"."""
    x = getattr(x, "_data", x)
    if isinstance(x, RowSparse):
        x = x.values
    if isinstance(x, float | complex | np.generic):  # NumPy makes scalars of 0-d results
        x = np.asarray(x)
    if not is_array(x) or x.dtype.kind not in "fc" or np.isfinite(x).all():
        return None
    x = asnumpy(x)
    nan = np.isnan(x)
    index = np.argwhere(nan if nan.any() else ~np.isfinite(x))[0].tolist()
    return f"{'NaN' if nan.any() else 'Inf'} at {tuple(index)}"


def _holds(x: Any, kind: str) -> bool:
    """Whether the first anomaly of x is a NaN, or an Inf."""
    return (_anomaly(x) or "").startswith(kind)


def _checksums(function: Function) -> list[int]:
    arrays: Iterator[Array] = (x for x in function.needed_arrays() if is_array(x))
    return [zlib.crc32(np.ascontiguousarray(asnumpy(x)).view(np.uint8).data) if x.size else 0 for x in arrays]


def _as_variables(arguments: list[Any]) -> list[Any]:
    from .variable import Variable

    return [Variable(x) if is_array(x) else x for x in arguments]


def _differentiate_definition(function: Function, received: Gradient) -> None:
    from .function import grad

    inputs = _as_variables(function.inputs)
    wanted = [x for x, edge in zip(inputs, function.edges, strict=True) if edge is not None]
    for x in wanted:
        x.requires_grad = True
    outputs = function.definition(*inputs)  # type: ignore[attr-defined]
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    grad(outputs, wanted, function.of_every_output(received), allow_unused=True)


@contextmanager
def _inside(function: Function) -> Iterator[None]:
    """A scope of the name of `function`, at its place in the user's program."""
    outer = modes.scope
    modes.scope = Scope(function.scope, function.name, function.code, function.instruction)
    try:
        yield
    finally:
        modes.scope = outer


def _locate(function: Function) -> None:
    """Give a Function that is not recorded its place in the user's program. To be called two calls below its own."""
    frame = sys._getframe(3)
    if function._of_library:
        frame = frame.f_back or frame
    function.scope, function.code, function.instruction = modes.scope, frame.f_code, frame.f_lasti
