"""The library's own threads, in place of BLAS's: over the parts of a batch, and of large matrix products.

NumPy's element-by-element loops use one core, and let go of the interpreter lock while they run: two halves of a batch
pass through a time loop side by side. OpenBLAS's threads are in the way of that, as they wait busily for 25 to 110 ms
after each product. A step of the date model took 57 ms where both kinds of threads took turns, and 33 ms with these
alone. So BLAS is held to one thread while this library computes. How many threads there are is what BLAS was set to:
the number of cores, or what the user wants (`OMP_NUM_THREADS`, threadpoolctl).
"""

from __future__ import annotations

import contextvars
import functools
import itertools
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import threadpoolctl

A = TypeVar("A")
T = TypeVar("T")
Outcome = queue.SimpleQueue[tuple[Any, BaseException | None]]  # of one call: what it returned or raised comes there

_MOST_IDLE = 32  # threads that wait for work


class _Here(threading.local):
    """What this thread is doing."""

    busy = False  # whether this thread does a part of shared work
    holds = 0  # how many times over it is inside `blas_alone`


here = _Here()
_idle: list[queue.SimpleQueue[Any]] = []  # of each thread that waits, where it takes its work from
_lock = threading.Lock()
_holders = 0  # how many threads hold BLAS to one thread at this moment
_held: list[int] = []  # what each BLAS was set to before
lone_products = 0  # large ones since BLAS was last held to one thread for anything else


def slices(size: int, parts: int, ahead: float = 0) -> list[slice]:
    """Cut `range(size)` into slices of nearly equal length.

    Args:
        size: how many elements, from 0.
        parts: how many slices, from 1; some are empty where there are more than elements.
        ahead: by which share of all elements the first slice is longer than the others.

    Returns:
        The slices, which together cover 0 to `size` in order.
    """
    ahead = int(size * ahead)
    edges = [0, *(ahead + (size - ahead) * i // parts for i in range(1, parts + 1))]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def side_by_side(function: Callable[[A], T], arguments: Sequence[A]) -> list[T]:
    """Call `function` with each argument at once, in a thread each; within such a thread, one after the other.

    Args:
        function: called once for each argument. What it writes to must belong to that argument only. What it raises is
            raised here, once all calls are through; only Ctrl-C does not wait for the others.
        arguments: at most `threads.count()`.

    Returns:
        What the calls returned, in the order of the arguments.
    """
    # Where the program ends, and a generator or a `__del__` still computes, the other threads do not run any more.
    if len(arguments) < 2 or here.busy or sys.is_finalizing():
        return [function(argument) for argument in arguments]
    with blas_alone():
        outcomes: list[Outcome] = []
        try:
            outcomes.extend(_begin(function, argument) for argument in arguments[1:])
            here.busy = True
            first = function(arguments[0])
        finally:
            here.busy = False
            others = [outcome.get() for outcome in outcomes]  # also after an error: nobody writes to shared arrays then
    try:
        for _, error in others:
            if error is not None:
                raise error
        return [first, *(result for result, _ in others)]
    finally:
        del others, error  # it knows this frame, and would lie in a cycle


def _begin(function: Callable[[A], Any], argument: A) -> Outcome:
    """Have another thread call the function; gives where result or error will come.

    With concurrent.futures, a language model of two layers of 650, of whose step 150 products are shared, took 1.08 of
    the time.
    """
    try:
        tasks = _idle.pop()
    except IndexError:
        tasks = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(tasks,), name="tinygrad_nlp", daemon=True).start()
    outcome: Outcome = queue.SimpleQueue()
    # In a copy of this thread's context: NumPy keeps there what `np.errstate` was told.
    tasks.put((contextvars.copy_context(), function, argument, outcome))
    return outcome


def _serve(tasks: queue.SimpleQueue[Any]) -> None:
    """Work off tasks: the other threads do nothing else."""
    here.busy = True
    while True:
        context, function, argument, outcome = tasks.get()
        result = failed = None
        try:
            result = context.run(function, argument)
        except BaseException as error:  # raised by the one who waits
            failed = error
        stays = len(_idle) < _MOST_IDLE
        if stays:
            _idle.append(tasks)  # before that one can ask for another thread
        outcome.put((result, failed))
        if not stays:
            return
        del context, function, argument, outcome, result, failed  # what they hold shall not live until the next task


def count() -> int:
    """How many threads share work, which is what BLAS was set to; 1 inside such a thread."""
    if here.busy:
        return 1
    with _lock:
        threads = _held if _holders else [library.get_num_threads() for library in blas()]
        return max(threads, default=1)


def _after_fork() -> None:
    """A forked process has none of the other threads: it would wait forever for them, and for BLAS to be let go."""
    global _holders
    _idle.clear()
    if _holders and not here.holds:
        _set_blas_threads(_held)
    _holders = here.holds
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)


@functools.cache
def blas() -> Sequence[Any]:
    """The BLAS libraries in this process. Looking them up takes milliseconds, so it is done once."""
    return threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers


def is_held() -> bool:
    """Whether some thread holds BLAS to one thread at this moment."""
    return _holders > 0


@contextmanager
def blas_alone() -> Iterator[None]:
    """Hold BLAS to one thread: around many small products, that each needs not do it.

    The first thread that comes does it, the last one that goes undoes it.
    """
    global _holders, _held, lone_products
    lone_products = 0
    with _lock:
        if not _holders:
            _held = [library.get_num_threads() for library in blas()]
            _set_blas_threads([1] * len(_held))
        _holders += 1
    here.holds += 1
    try:
        yield
    finally:
        here.holds -= 1
        with _lock:
            _holders -= 1
            if not _holders:
                _set_blas_threads(_held)


def _set_blas_threads(counts: Sequence[int]) -> None:
    for library, threads in zip(blas(), counts, strict=True):
        # From 3.8 on, threadpoolctl lets only the first thread that sets OpenBLAS set it again; others do nothing,
        # silently. Here the lock keeps threads apart, and the one that restores need not be the one that held.
        release = getattr(library, "clear_controlling_thread", lambda force: None)
        release(force=True)
        library.set_num_threads(threads)
        release(force=True)
