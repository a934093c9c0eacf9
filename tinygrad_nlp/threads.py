"""The library's own threads, in place of BLAS's: over the parts of a batch, and for large matrix products.

NumPy's element-by-element loops use one core, and let go of the interpreter lock while they run: two halves of a batch
pass through a time loop side by side. OpenBLAS's threads are in the way of that, as they wait busily for 25 to 110 ms
after each product. A step of the date model took 57 ms where both kinds of threads took turns, and 33 ms with these
alone. So BLAS is held to one thread while this library computes. How many threads there are is what BLAS was set to:
the number of cores, or what the user wants (`OMP_NUM_THREADS`, threadpoolctl).

Where for a while there was nothing to share but products, BLAS's threads do them, as they need not be woken: a step of
100 layers of 256, batch 1,024, takes 150 ms so and 170 ms with these threads. Which of them multiply is decided
by what was computed before, not by the clock: they round in different ways, and a program shall repeat its bits.
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

import numpy as np
import threadpoolctl

A = TypeVar("A")
T = TypeVar("T")
Outcome = queue.SimpleQueue[tuple[Any, BaseException | None]]  # of one call: what it returned or raised comes there

_ALONE = 2**18  # multiplications of a product, up to which OpenBLAS uses one thread by itself
_EACH = 2**16  # multiplications: what it costs to begin one of many small products
_WORTH_A_THREAD = 2**23  # multiplications: 80 µs, twice what it costs to hand them over
_MANY_PRODUCTS = 1000  # large ones, after which nothing else seems to be there that threads could share
_MOST_IDLE = 32  # threads that wait for work
_FEW_ROWS = 32  # up to which a product may be made in pieces
_FEWER_ROWS = 16  # so few that their product with a transposed factor is sooner made the other way round, and copied
_UNCOPIED = 10**6  # multiplications of a product, up to which OpenBLAS's AVX-512 kernels take factors where they lie
_COLUMNS = 64  # of such a product: four registers
_PAGE = 4096  # bytes: rows so far apart share a few places of the cache


class _Here(threading.local):
    busy = False  # whether this thread does a part of shared work
    holds = 0  # how many times over it is inside `blas_alone`


_here = _Here()
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
    if len(arguments) < 2 or _here.busy or sys.is_finalizing():
        return [function(argument) for argument in arguments]
    with blas_alone():
        outcomes: list[Outcome] = []
        try:
            outcomes.extend(_begin(function, argument) for argument in arguments[1:])
            _here.busy = True
            first = function(arguments[0])
        finally:
            _here.busy = False
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
    _here.busy = True
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


def matmul(a: Any, b: Any, out: Any = None) -> Any:
    """a @ b, shared among threads where it is large; for Variables and CuPy arrays, a @ b as it is.

    Args:
        a: (…, m, k), or all else that NumPy multiplies.
        b: (…, k, n), the leading axes those of the other one or none, or all else that NumPy multiplies.
        out: (…, m, n), to write to, which shares no memory with a and b; by default a new array.

    Returns:
        (…, m, n), `out` where it was given; in the dtype to which NumPy promotes those of a and b.

    Raises:
        ValueError: k differs, leading axes do not broadcast, or `out` has another shape.
    """
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)) or a.ndim < 2 or b.ndim < 2:
        return a @ b if out is None else np.matmul(a, b, out=out)
    # One row, as in generation, waits for the memory of b: BLAS's threads take 28 µs for 10,000 words of 100, one 52.
    if a.size * b.shape[-1] <= _ALONE or a.shape[:-1] == (1,):
        return np.matmul(a, b, out=out)
    if out is None and a.ndim == b.ndim == 2 and len(a) <= _FEWER_ROWS < b.shape[1] and _is_transposed(b):
        # Scores of a few beams, x Wᵀ: 5 rows and 10,000 words of 100 take 150 µs so, and 260 as they are.
        return np.ascontiguousarray(matmul(b.T, a.T).T)
    if _here.busy:
        return _product(a, b, out)
    if _holders or a.ndim > 2 or b.ndim > 2:
        return _shared_product(a, b, out)
    global lone_products
    before = lone_products
    product = np.matmul(a, b, out=out) if before >= _MANY_PRODUCTS else _shared_product(a, b, out)
    lone_products = before + 1  # not 0, as blas_alone sets it
    return product


def _is_transposed(b: np.ndarray) -> bool:
    return b.strides[0] == b.itemsize < b.strides[1]


def _shared_product(a: np.ndarray, b: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    (m, k), n = a.shape[-2:], b.shape[-1]
    products = max(a.size // (m * k), b.size // (k * n))
    multiplications = products * m * k * n
    parts = (multiplications + products * _EACH) // _WORTH_A_THREAD
    if parts > 1:
        parts = min(count(), parts)
    shape = (*max(a.shape[:-2], b.shape[:-2], key=len), m, n)
    fits = k == b.shape[-2] and (a.ndim == 2 or b.ndim == 2 or a.shape[:-2] == b.shape[:-2])
    if parts < 2 or not fits or (out is not None and out.shape != shape):
        if _here.holds:  # to hold again takes 2 µs, of the 10 of a step's product in a small recurrence
            return _product(a, b, out)
        with blas_alone():
            return _product(a, b, out)
    if out is None:
        out = np.empty(shape, np.result_type(a, b))
    ahead = min(1, _WORTH_A_THREAD / 2 / multiplications)  # what this thread does until the others have begun
    if a.ndim > 2:
        side_by_side(lambda s: _product(a[s], b if b.ndim == 2 else b[s], out[s]), slices(len(a), parts, ahead))
    elif b.ndim > 2 and len(b) % parts == 0:  # the gates of a recurrence
        side_by_side(lambda s: _product(a, b[s], out[s]), slices(len(b), parts))
    elif m < n:
        side_by_side(lambda s: _product(a, b[..., s], out[..., s]), slices(n, parts, ahead))
    else:
        side_by_side(lambda s: _product(a[s], b, out[..., s, :]), slices(m, parts, ahead))
    return out


def _product(a: np.ndarray, b: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """a @ b on this thread; in pieces where that takes less time."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    if a.ndim == 2 and 1 < m <= _FEW_ROWS and m * k * n > _UNCOPIED and k == b.shape[-2] and _has_small_kernels():
        floats = all(x is None or x.dtype == np.float32 for x in (a, b, out))
        rows = all(x.strides[-1] == x.itemsize for x in (a, b))
        longest = _UNCOPIED // (m * _COLUMNS)
        parts = next((parts for parts in range(1, 9) if k % parts == 0 and k // parts <= longest), None)
        if parts and floats and rows and b.strides[-2] % _PAGE:
            return _in_pieces(a, b, out, parts)
    return np.matmul(a, b, out=out)


def _in_pieces(a: np.ndarray, b: np.ndarray, out: np.ndarray | None, parts: int) -> np.ndarray:
    """a @ b for an a of few rows: 64 columns at a time, and the sums of k products in so many parts.

    OpenBLAS copies its factors into an order of its own before it multiplies. Of 20 rows and weights of (650, 650) that
    is a quarter of the time, of 10 rows a half. Its AVX-512 kernels go without where a product is small.
    """
    (m, k), n, several = a.shape, b.shape[-1], b.shape[:-2]
    if out is None:
        out = np.empty((*several, m, n), np.float32)
    a = a.reshape(m, parts, k // parts).swapaxes(0, 1)
    b = b.reshape(*several, parts, k // parts, n)
    sums = out[..., None, :, :] if parts == 1 else np.empty((*several, parts, m, n), np.float32)
    pieces, edge = n // _COLUMNS, n - n % _COLUMNS
    of_b, of_sums = (
        x[..., :edge].reshape(*x.shape[:-1], pieces, _COLUMNS).swapaxes(-3, -2) for x in (b, sums)
    )  # (…, parts, pieces, k / parts or m, 64)
    np.matmul(a[:, None], of_b, out=of_sums)
    np.matmul(a, b[..., edge:], out=sums[..., edge:])
    return out if parts == 1 else np.add.reduce(sums, axis=-3, out=out)


@functools.cache
def _has_small_kernels() -> bool:
    """Whether NumPy's BLAS has kernels for small products that need no copies."""
    numpys = (library for library in _blas() if "numpy" in library.filepath)
    return any(
        getattr(library, "architecture", None) in ("SkylakeX", "Cooperlake", "SapphireRapids") for library in numpys
    )


def count() -> int:
    """How many threads share work, which is what BLAS was set to; 1 inside such a thread."""
    if _here.busy:
        return 1
    with _lock:
        threads = _held if _holders else [library.get_num_threads() for library in _blas()]
        return max(threads, default=1)


def _after_fork() -> None:
    """A forked process has none of the other threads: it would wait forever for them, and for BLAS to be let go."""
    global _holders
    _idle.clear()
    if _holders and not _here.holds:
        _set_blas_threads(_held)
    _holders = _here.holds
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)


@functools.cache
def _blas() -> Sequence[Any]:
    """The BLAS libraries in this process. Looking them up takes milliseconds, so it is done once."""
    return threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers


@contextmanager
def blas_alone() -> Iterator[None]:
    """Hold BLAS to one thread: around many small products, that each needs not do it.

    The first thread that comes does it, the last one that goes undoes it.
    """
    global _holders, _held, lone_products
    lone_products = 0
    with _lock:
        if not _holders:
            _held = [library.get_num_threads() for library in _blas()]
            _set_blas_threads([1] * len(_held))
        _holders += 1
    _here.holds += 1
    try:
        yield
    finally:
        _here.holds -= 1
        with _lock:
            _holders -= 1
            if not _holders:
                _set_blas_threads(_held)


def _set_blas_threads(counts: Sequence[int]) -> None:
    for library, threads in zip(_blas(), counts, strict=True):
        # From 3.8 on, threadpoolctl lets only the first thread that sets OpenBLAS set it again; others do nothing,
        # silently. Here the lock keeps threads apart, and the one that restores need not be the one that held.
        release = getattr(library, "clear_controlling_thread", lambda force: None)
        release(force=True)
        library.set_num_threads(threads)
        release(force=True)
