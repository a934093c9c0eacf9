"""Matrix products: the library's threads share large ones, and one thread makes them in pieces where that pays.

Where for a while there was nothing to share but products, BLAS's threads do them, as they need not be woken: a step of
100 layers of 256, batch 1,024, takes 150 ms so and 170 ms with the library's threads. Which of them multiply is decided
by what was computed before, not by the clock: they round in different ways, and a program shall repeat its bits.

OpenBLAS copies its factors into an order of its own before it multiplies. Of 20 rows and weights of (650, 650) that is
a quarter of the time, of 10 rows a half, of 64 a tenth, and of matrices of 32 columns a third. Its AVX-512 kernels go
without where a product is small: so one is cut into small ones, in rows, columns and the terms of its sums.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from . import threads
from .threads import blas_alone, count, side_by_side, slices

_ALONE = 2**18  # multiplications of a product, up to which OpenBLAS uses one thread by itself
_EACH = 2**16  # multiplications: what it costs to begin one of many small products
_WORTH_A_THREAD = 2**23  # multiplications: 80 µs, twice what it costs to hand them over
_MANY_PRODUCTS = 1000  # large ones, after which nothing else seems to be there that threads could share
_FEWEST_ROWS = 16  # so few that their product with a transposed factor is sooner made the other way round, and copied
_UNCOPIED = 10**6  # multiplications of a product, up to which OpenBLAS's AVX-512 kernels take factors where they lie
_FEW_ROWS = 128  # up to which products are cut also in columns and terms
_ROWS = range(32, 7, -1)  # of a piece of such a product
_COLUMNS = 64  # of a piece: four registers
_TERMS = 64  # of a narrow piece's sums: with fewer, to add up the sums of all pieces costs too much,
_PARTS = 8  # and with more parts of wider ones, too
_IN_CACHE = 2**19  # elements of the second factor, up to which one group of rows leaves it in the cache for the next
_NARROW = 2**14  # elements of the second factor, up to which a product of more rows is cut
_PAGE = 4096  # bytes: rows so far apart share a few places of the cache


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
    if _is_plain(a.size, b) or a.shape[:-1] == (1,):
        return np.matmul(a, b, out=out)
    if out is None and a.ndim == b.ndim == 2 and len(a) <= _FEWEST_ROWS < b.shape[1] and _is_transposed(b):
        # Scores of a few beams, x Wᵀ: 5 rows and 10,000 words of 100 take 150 µs so, and 260 as they are.
        return np.ascontiguousarray(matmul(b.T, a.T).T)
    if threads.here.busy:
        return _product(a, b, out)
    if threads.is_held() or a.ndim > 2 or b.ndim > 2:
        return _shared_product(a, b, out)
    before = threads.lone_products
    product = np.matmul(a, b, out=out) if before >= _MANY_PRODUCTS else _shared_product(a, b, out)
    threads.lone_products = before + 1  # not 0, as blas_alone sets it
    return product


def multiplier(b: Any, out: Any) -> Callable[..., Any]:
    """Choose what makes the products of a loop: `matmul`, or NumPy's `dot` where that would do the same.

    For `matmul` to look at its factors takes 0.6 µs, and `np.matmul` another 0.6 more than `dot`, while other threads
    wait for the interpreter: a step of an RNN of 32 units takes 0.93 of the time so.

    Args:
        b: (k, n), the second factor.
        out: (m, n), in the order of C: an array like those that the products are written to.

    Returns:
        A function of a first factor (m, k), b and where their product goes.
    """
    plain = isinstance(b, np.ndarray) and b.dtype == out.dtype and _is_plain(len(out) * len(b), b)
    return np.ndarray.dot if plain else matmul


def _is_plain(size: int, b: np.ndarray) -> bool:
    """Whether a product is too small to share and to cut, and BLAS makes it with one thread; of such a first factor."""
    here = threads.here
    return bool(size * b.shape[-1] <= (_UNCOPIED if here.busy or here.holds else _ALONE))


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
        # To hold again takes 2 µs, of the 10 of a step's product in a small recurrence.
        with nullcontext() if threads.here.holds else blas_alone():
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
    if m * k * n > _UNCOPIED and min(m, n) > 1 and a.ndim == 2 and _has_small_kernels():
        floats = all(x is None or x.dtype == np.float32 for x in (a, b, out))
        fit = k == b.shape[-2] and b.size > 0 and (out is None or out.shape == (*b.shape[:-2], m, n))
        transposed = _is_transposed(a)
        lie_well = (transposed or _lies_in_rows(a)) and _lies_in_rows(b) and b.strides[-2] % _PAGE
        pieces = _size_of_pieces(m, k, n, b.size, transposed) if floats and fit and lie_well else None
        if pieces:
            return _in_pieces(a, b, out, *pieces)
    return np.matmul(a, b, out=out)


def _lies_in_rows(x: np.ndarray) -> bool:
    return x.strides[-1] == x.itemsize


def _is_transposed(x: np.ndarray) -> bool:
    return x.strides[-2] == x.itemsize < x.strides[-1]


@functools.lru_cache(maxsize=1024)
def _size_of_pieces(m: int, k: int, n: int, size: int, transposed: bool) -> tuple[int, int, int] | None:
    """How many rows, columns and terms the pieces of a product have; None where it is sooner made as it is.

    Args:
        m: rows of the product.
        k: terms of each of its sums.
        n: columns.
        size: elements of the second factor, which may be several matrices.
        transposed: whether the first factor is.
    """
    if m > _FEW_ROWS:
        return (min(_FEW_ROWS, _UNCOPIED // (k * n)), n, k) if size <= _NARROW else None
    narrow = n <= _COLUMNS
    if m <= max(_ROWS) or (transposed and narrow):
        rows = m
    else:
        rows = next((rows for rows in _ROWS if m % rows == 0), 0) if size <= _IN_CACHE else 0
    if not rows or (transposed and not narrow):
        return None
    columns = min(n, _COLUMNS)
    longest = _UNCOPIED // (rows * columns)
    most_parts = max(k // _TERMS, 1) if narrow else _PARTS
    sizes = ((rows, columns, k // p) for p in range(1, most_parts + 1) if k % p == 0 and k // p <= longest)
    return next(sizes, None)


def _in_pieces(a: np.ndarray, b: np.ndarray, out: np.ndarray | None, rows: int, columns: int, terms: int) -> np.ndarray:
    """a @ b, so many rows, columns, and terms of the sums at a time."""
    (m, k), n, several = a.shape, b.shape[-1], b.shape[:-2]
    if out is None:
        out = np.empty((*several, m, n), np.float32)
    parts, bottom, edge = k // terms, m - m % rows, n - n % columns
    a = a.reshape(m, parts, terms).swapaxes(0, 1)
    b = b.reshape(*several, parts, terms, n)
    sums = out[..., None, :, :] if parts == 1 else np.empty((*several, parts, m, n), np.float32)
    # (…, parts, m / rows, n / columns, …): all views
    of_a = a[:, :bottom].reshape(parts, bottom // rows, 1, rows, terms)
    of_b = b[..., :edge].reshape(*several, parts, 1, terms, edge // columns, columns).swapaxes(-3, -2)
    in_pieces = (*several, parts, bottom // rows, rows, edge // columns, columns)
    np.matmul(of_a, of_b, out=sums[..., :bottom, :edge].reshape(in_pieces).swapaxes(-3, -2))
    if edge < n:
        np.matmul(a[:, :bottom], b[..., edge:], out=sums[..., :bottom, edge:])
    if bottom < m:
        np.matmul(a[:, bottom:], b, out=sums[..., bottom:, :])
    return out if parts == 1 else np.add.reduce(sums, axis=-3, out=out)


@functools.cache
def _has_small_kernels() -> bool:
    """Whether NumPy's BLAS has kernels for small products that need no copies."""
    numpys = (library for library in threads.blas() if "numpy" in library.filepath)
    return any(
        getattr(library, "architecture", None) in ("SkylakeX", "Cooperlake", "SapphireRapids") for library in numpys
    )
