"""NumPy or CuPy: which module an array belongs to, devices, kernels of CUDA, random streams, scatter.

The only file that imports cupy, and only when an array or a user asks for a GPU. Most of the library needs none of it:
NumPy's functions dispatch on their arguments, so `np.exp(x)` of a CuPy array is computed by CuPy.
"""

from __future__ import annotations

import functools
import importlib
import importlib.resources
import importlib.util
import re
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np

from . import threads

Array = Any  # numpy.ndarray or cupy.ndarray: neither is a subclass of the other

_DLPACK_CPU = 1  # the number of the CPU in the DLPack protocol


# --- arrays and devices -----------------------------------------------------------------------------------------------


def is_array(x: object) -> bool:
    """Whether something is an array of NumPy or of CuPy (and not a list, a number or a Variable).

    Args:
        x: anything.

    Returns:
        True or False.
    """
    return isinstance(x, np.ndarray) or device_of(x) != "cpu"


def get_array_module(x: object) -> ModuleType:
    """The module that made an array, as `cupy.get_array_module`.

    Args:
        x: anything.

    Returns:
        `cupy` for a CuPy array, `numpy` for everything else.
    """
    return np if device_of(x) == "cpu" else _cupy()


def device_of(x: object) -> str:
    """Where something lies.

    Args:
        x: anything.

    Returns:
        "cuda:0" and so on for a CuPy array, "cpu" for everything else.
    """
    cupy = sys.modules.get("cupy")  # an array of CuPy can only exist once CuPy is loaded
    if cupy is None or not isinstance(x, cupy.ndarray):
        return "cpu"
    return f"cuda:{x.device.id}"


def lies_on(x: object, device: str) -> bool:
    """Whether something lies on a device.

    Args:
        x: anything; all but arrays of CuPy lies on the CPU.
        device: "cpu", "cuda" (the current GPU) or "cuda:1".

    Returns:
        True or False; False also where `device` is none of these.
    """
    where = device_of(x)
    return where == device or (where != "cpu" and device == "cuda" and is_current(where))


def is_current(device: str) -> bool:
    """Whether a GPU is the one on which CuPy computes in this thread.

    Args:
        device: "cuda:0" and so on, where an array lies.

    Returns:
        True or False.
    """
    return bool(device == f"cuda:{_cupy().cuda.Device().id}")


def to_device(x: Array, device: str) -> Array:
    """An array on another device.

    Args:
        x: an array, of any shape and dtype.
        device: "cpu", "cuda" (the current GPU: the first one, outside `cuda_device`) or "cuda:1".

    Returns:
        Of the shape and dtype of x; the same array where it already lies there.

    Raises:
        ValueError: `device` is none of these.
        RuntimeError: there is no usable GPU, no GPU of that number, or no CuPy.
    """
    if device == "cpu":
        return asnumpy(x)
    if lies_on(x, device):
        return x
    target = cuda_device(device)
    if device_of(x) != "cpu":
        with x.device:
            x = _cupy().ascontiguousarray(x)  # from GPU to GPU, CuPy copies nothing else
    with target:
        return _cupy().asarray(x)


def beside(x: Array, like: Array) -> Array:
    """An array on the device of another one: for ids and masks, which follow the array that they speak of.

    Args:
        x: an array, of any shape and dtype.
        like: an array.

    Returns:
        Of the shape and dtype of x; x itself where it lies there.
    """
    where = device_of(like)
    return x if device_of(x) == where else to_device(x, where)


def asnumpy(x: Array) -> np.ndarray:
    """An array as one of NumPy, on the CPU.

    Args:
        x: an array, of any shape and dtype.

    Returns:
        Of the shape and dtype of x; x itself, without a copy, where it is one.
    """
    return x if isinstance(x, np.ndarray) or device_of(x) == "cpu" else _cupy().asnumpy(x)


def from_dlpack(x: Any) -> Array:
    """The array of another library as one of NumPy, or of CuPy where it lies on a GPU; shared, not copied.

    Args:
        x: whatever follows the DLPack protocol (`numpy.from_dlpack`).

    Returns:
        Of the shape and dtype of x.

    Raises:
        AttributeError: x does not follow the protocol.
        BufferError: x does not want to be shared, as a tensor that requires a gradient.
        RuntimeError: x has a dtype that NumPy has not, as bfloat16.
    """
    kind, _ = x.__dlpack_device__()
    return (np if kind == _DLPACK_CPU else _cupy()).from_dlpack(x)


def cuda_is_available() -> bool:
    """Whether CuPy is installed and finds a GPU."""
    return importlib.util.find_spec("cupy") is not None and bool(_cupy().cuda.is_available())


def cuda_device_count() -> int:
    """How many GPUs CuPy finds; 0 without CuPy."""
    return int(_cupy().cuda.runtime.getDeviceCount()) if cuda_is_available() else 0


def cuda_device(device: str) -> Any:
    """A GPU, for a `with`: inside, it is the current one of this thread, where CuPy computes and makes its arrays.

    Args:
        device: "cuda", the one that is current already, or "cuda:1".

    Returns:
        A `cupy.cuda.Device`.

    Raises:
        ValueError: `device` is none of these.
        RuntimeError: there is no usable GPU, no GPU of that number, or no CuPy.
    """
    kind, colon, number = device.partition(":")
    if kind != "cuda" or (colon and not number.isdigit()):
        raise ValueError(f'device must be "cpu", "cuda" or "cuda:<number>", not {device!r}')
    if not cuda_is_available():
        raise RuntimeError(
            f"{device}: no GPU can be used here; `python -m tinygrad_nlp doctor` says why (CuPy comes with "
            '`pip install "tinygrad_nlp[cuda12]"`)'
        )
    if number and int(number) >= cuda_device_count():
        raise RuntimeError(f"{device}: the GPUs here are cuda:0 to cuda:{cuda_device_count() - 1}")
    return _cupy().cuda.Device(int(number) if number else None)


def _cupy() -> ModuleType:
    import cupy

    return cupy


def special_functions(x: object) -> ModuleType:
    """SciPy's special functions, or CuPy's edition of them. Takes 0.1 s to import: not before it is needed.

    Args:
        x: what they shall be applied to.

    Returns:
        The module `scipy.special`, or for a CuPy array `cupyx.scipy.special`.
    """
    return importlib.import_module("scipy.special" if device_of(x) == "cpu" else "cupyx.scipy.special")


# --- kernels of CUDA --------------------------------------------------------------------------------------------------

_BLOCK = 128  # threads
_TYPES_OF_C = {"float32": "float", "float64": "double", "int64": "long long"}


def has_kernels(*arrays: Array) -> bool:
    """Whether `launch` can take these arrays: on a GPU, contiguous, all float32 or all float64.

    Args:
        *arrays: of any shapes; at least one.

    Returns:
        True or False; where False, NumPy's functions do the work, on either device.
    """
    first = arrays[0]
    return device_of(first) != "cpu" and all(
        a.dtype == first.dtype and a.dtype.name in ("float32", "float64") and a.flags.c_contiguous for a in arrays
    )


def launch(kernel: str, size: int, like: Array, *arguments: Any) -> None:
    """Run a kernel of `kernels/*.cu`; it gets the number of threads, and then the arguments.

    Args:
        kernel: "lstm.forward" is the function forward of lstm.cu.
        size: how many threads it wants, 0 or more, as a rule one for each element.
        like: an array of CuPy, float32, float64 or int64: which type `real` is, and the GPU.
        *arguments: arrays on that GPU, of which the kernel gets the first element's address; integers, which are
            `long long` there; floats, which are `real`. CuPy checks none of them.

    Raises:
        TypeError: `like` is of another dtype.
    """
    if size:  # CUDA refuses a grid of no blocks
        number = like.dtype.type
        given = [
            np.int64(a) if isinstance(a, int | np.integer) else number(a) if isinstance(a, float | np.floating) else a
            for a in arguments
        ]
        with like.device:
            run = _kernel(kernel, like.dtype.name)
            run((-(-size // _BLOCK),), (_BLOCK,), (np.int64(size), *given))


def kernel_source(file: str, dtype: str) -> str:
    """The text of `kernels/<file>.cu` for one dtype, as it goes to the compiler.

    Args:
        file: its name without the ending, as "lstm".
        dtype: "float32", "float64" or "int64".

    Returns:
        CUDA C++, in ASCII and without the comments: CuPy writes it to a file in the encoding of the system, which on
        Windows may have no Greek.

    Raises:
        TypeError: of another dtype.
    """
    if dtype not in _TYPES_OF_C:
        raise TypeError(f"{file}.cu: kernels are for {', '.join(_TYPES_OF_C)}, not for {dtype}")
    text = (importlib.resources.files(__package__) / "kernels" / f"{file}.cu").read_text(encoding="utf-8")
    return f"typedef {_TYPES_OF_C[dtype]} real;\n#line 1\n" + re.sub("//.*", "", text)


@functools.cache
def _kernel(kernel: str, dtype: str) -> Any:
    file, _, function = kernel.partition(".")
    return _cupy().RawKernel(kernel_source(file, dtype), function)


# --- random streams ---------------------------------------------------------------------------------------------------

_seeds = np.random.SeedSequence()  # what the streams of threads are spawned from
_lock = threading.Lock()


class _Here(threading.local):
    """The stream of one thread, and the seeds that it was made from; None where the thread gave it a seed itself."""

    def __init__(self) -> None:
        with _lock:
            self.seeds: np.random.SeedSequence | None = _seeds
            self.generator = np.random.default_rng(_seeds.spawn(1)[0])


_here = _Here()


def manual_seed(seed: int) -> None:
    """Restart the stream that initialisers and dropout draw from, to repeat a run. As `torch.manual_seed`.

    Every thread has a stream of its own, so that what one draws does not depend on how fast others run. This restarts
    the stream of the thread that calls it. Called in the main thread, it restarts those of the others too, but for
    those that called it themselves: they are spawned from the seed, in the order in which the threads next draw.

    Which threads share products is decided anew as well (see `products`), since the last bits depend on it.

    Args:
        seed: an integer from 0.

    Raises:
        ValueError: a negative seed.
        TypeError: a seed that is no integer.
    """
    global _seeds
    if seed < 0:
        raise ValueError(f"manual_seed: the seed must be 0 or more, not {seed}")
    here = _here
    here.generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    here.seeds = None
    if threading.current_thread() is threading.main_thread():
        _seeds = np.random.SeedSequence(seed)
    threads.lone_products = 0


def generator() -> np.random.Generator:
    """The stream that initialisers and dropout draw from in this thread, a PCG64.

    Its `bit_generator.state` goes into checkpoints. Draws are made on the CPU also for a model on a GPU, so that both
    see the same numbers, and a resumed run, too: CuPy's generators cannot be saved.
    """
    here = _here
    if here.seeds is not None and here.seeds is not _seeds:  # manual_seed was called in the main thread since
        with _lock:
            here.seeds, child = _seeds, _seeds.spawn(1)[0]
        here.generator.bit_generator.state = np.random.default_rng(child).bit_generator.state
    return here.generator


# --- scatter ----------------------------------------------------------------------------------------------------------

_MANY = 2**12  # values, from which on a sparse matrix is worth its making


def sum_duplicates(rows: Array, values: Array) -> tuple[Array, Array]:
    """Add up the values of equal rows: the gradient of a look-up, without a loop.

    Sorting, and then summing up, needs no table of zeros; at 700 × 100 float32 it is 10 times faster than `np.add.at`.
    Many values are added one after the other, as there.

    Args:
        rows: integers (K,), none negative, in any order, with repeats.
        values: (K, …), of any dtype, on a GPU any but complex; what belongs to each id.

    Returns:
        The distinct ids in increasing order (U,) and the sums (U, …), of the dtype of `values`.
    """
    xp, dtype = get_array_module(values), values.dtype
    if len(rows) == 0:
        return rows, values
    # NumPy sorts integers of 16 bits by radix, five times faster than wider ones.
    order = xp.argsort(rows.astype(np.uint16) if rows.max() < 2**16 else rows, kind="stable")
    rows = rows[order]
    first = xp.flatnonzero(xp.concatenate((xp.ones(1, bool), rows[1:] != rows[:-1])))
    if xp is np and len(first) < len(rows) and values.size >= _MANY:
        return rows[first], _sum_segments(order, first, values)
    values = values.take(order, axis=0)
    if len(first) == len(rows):
        return rows, values
    if xp is np:
        return rows[first], np.add.reduceat(values, first, axis=0, dtype=dtype)
    # One thread adds up all the values of an element, in their order: the same bits in every run. Atomic additions come
    # in any order, and CuPy's reduceat takes differences of running sums, which lose digits.
    wide = np.int64 if values.dtype.kind in "iub" else np.promote_types(values.dtype, np.float32)
    values = values.astype(wide, copy=False)
    sums = xp.empty((len(first), *values.shape[1:]), wide)
    launch("segments.sum", sums.size, sums, sums.size // len(first), len(rows), first, values, sums)
    return rows[first], sums.astype(dtype, copy=False)


def _sum_segments(order: np.ndarray, first: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums of `values[order]` from each of `first` to the next, by a sparse matrix of ones.

    `np.add.reduceat` takes 5 times as long for 700 × 100 float32, and 9 times for 700 × 650.
    """
    from scipy import sparse

    dtype = np.float32 if values.dtype == np.float16 else values.dtype  # SciPy has no halves
    shape = len(first), len(order)
    ones = sparse.csr_array((np.ones(len(order), dtype), order, np.append(first, len(order))), shape=shape)
    sums = ones @ values.reshape(len(order), -1).astype(dtype, copy=False)
    return sums.reshape(-1, *values.shape[1:]).astype(values.dtype, copy=False)


def add_rows(out: Array, rows: Array, values: Array) -> None:
    """Add to `out[rows[k]]` the k-th of `values`, in place; a row that is named twice gets both.

    Args:
        out: (V, …), of any dtype.
        rows: integers (K,), in any order, with repeats, in [-V, V).
        values: (K, …), of a dtype that NumPy casts to that of `out`.

    Raises:
        IndexError: an id outside [-V, V).
        ValueError: `values` of another shape.
    """
    xp = get_array_module(out)
    rows = xp.asarray(rows)
    if xp is np and (values.size < 2000 or values.size < 8 * len(rows)):  # sorting would cost more than it saves
        np.add.at(out, rows, values)
        return
    rows = xp.arange(len(out))[rows]  # negative ids counted from the front, wrong ones refused
    distinct, sums = sum_duplicates(rows, values.astype(out.dtype, copy=False))
    out[distinct] += sums


def add_at(out: Array, index: Any, values: Array) -> None:
    """Add `values` to `out[index]`, in place, as `np.add.at`; an element that is named twice gets both.

    Args:
        out: of any shape, contiguous.
        index: all that NumPy takes in brackets.
        values: of the shape of `out[index]`, or what broadcasts to it.

    Raises:
        IndexError: an index is out of bounds.
    """
    xp = get_array_module(out)
    if xp is np:
        np.add.at(out, index, values)
        return
    places = xp.arange(out.size).reshape(out.shape)[index]
    add_rows(out.reshape(-1), places.reshape(-1), xp.broadcast_to(values, places.shape).reshape(-1))
