"""A stand-in for CuPy that computes with NumPy and refuses what CuPy refuses: tests of code for GPUs run without one.

Its arrays wrap arrays of NumPy and are none, so that what mixes the two raises as it would on a GPU: operators,
functions, `out=` and `np.asarray`. So does what mixes two GPUs. Only what CuPy 14 has is there, but for `ufunc.at` and
`reduceat`, which this library does not want. What it cannot show: CUDA's own errors, speed, rounding, the order of
threads, and ids out of range, which CuPy wraps around and this refuses.
"""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import scipy.special

from tests import cuda_shim

DEVICES = 2

# What NumPy has and CuPy 14.2 has not; `test_backend.py` compares them where CuPy is installed, with a GPU or without.
LACKING = {
    "asmatrix", "block", "bmat", "busday_count", "busday_offset", "datetime_as_string", "datetime_data",
    "einsum_path", "frompyfunc", "fromregex", "geomspace", "get_include", "getbufsize", "geterr", "geterrcall",
    "histogram_bin_edges", "info", "insert", "is_busday", "isnat", "matvec", "nanpercentile", "nanquantile",
    "nested_iters", "polyder", "polydiv", "polyint", "setbufsize", "seterr", "seterrcall", "show_runtime",
    "spacing", "test", "unstack", "vecdot", "vecmat",
}  # fmt: skip
LACKING_LINALG = {
    "diagonal", "matrix_norm", "multi_dot", "outer", "svdvals", "tensordot", "test", "trace", "vecdot", "vector_norm",
}  # fmt: skip
LACKING_METHODS = {"getfield", "resize", "setfield", "setflags", "to_device"}

# Functions that do not begin with an array of the device: what they take may come from the host, or is no array.
MAKE = {"arange", "array", "asarray", "ascontiguousarray", "empty", "eye", "full", "linspace", "ones", "zeros"}
PLAIN = {"broadcast_shapes", "can_cast", "dtype", "finfo", "iinfo", "isscalar", "ndim", "promote_types", "result_type"}
JOIN = {"column_stack", "concatenate", "dstack", "hstack", "stack", "vstack"}

# Methods that look at the same memory, on whichever GPU it lies (`reshape` of what is contiguous).
VIEWS = {"reshape", "squeeze", "swapaxes", "transpose", "view"}

current = SimpleNamespace(device=0)


class Device:
    """One of the GPUs, which a `with` makes the current one."""

    def __init__(self, id=None):
        self.id = current.device if id is None else id
        if not 0 <= self.id < DEVICES:
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def __enter__(self):
        self.before, current.device = current.device, self.id
        return self

    def __exit__(self, *_):
        current.device = self.before

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    __hash__ = None


def unwrap(x, indices=False):
    """The array of NumPy inside; inside tuples and lists, too. One from outside is refused, unless it is an index."""
    if isinstance(x, ndarray):
        return x._array
    if isinstance(x, np.ndarray) and not indices:
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, tuple | list):
        return type(x)([unwrap(part, indices) for part in x])
    return x


def parents_of(*things):
    for x in things:
        if isinstance(x, ndarray):
            yield x
        elif isinstance(x, tuple | list):
            yield from parents_of(*x)


def on_current_device(parents):
    """Refuse arrays of another GPU than the current one, as CuPy does where GPUs cannot reach each other's memory."""
    for x in parents:
        if x._device != current.device:
            raise ValueError(
                f"The device where the array resides ({x._device}) is different from the current device "
                f"({current.device}). Peer access is unavailable between these devices."
            )


def wrap(y, parents=(), device=None):
    """A result of NumPy as an array of the device: never a scalar, and a view where it is one."""
    if isinstance(y, tuple | list):
        return type(y)([wrap(part, parents, device) for part in y])
    if isinstance(y, np.generic):
        y = np.asarray(y)
    if not isinstance(y, np.ndarray):
        return y
    for x in parents:
        if y is x._array:
            return x
    new = object.__new__(ndarray)
    new._array, new._device, new.base = y, current.device if device is None else device, None
    if y.base is not None:
        for x in parents:
            if np.may_share_memory(y, x._array):
                new.base = x if x.base is None else x.base
    return new


def scalar(x):
    return isinstance(x, bool | int | float | complex | np.generic)


class ufunc:
    """One of CuPy's universal functions."""

    def __init__(self, of_numpy):
        self.of_numpy, self.__name__ = of_numpy, of_numpy.__name__

    def __call__(self, *args, **kwargs):
        out = kwargs.pop("out", None)
        if isinstance(out, tuple):
            (out,) = out
        if kwargs.keys() - {"casting", "dtype"}:
            raise TypeError(f"Wrong arguments {kwargs}")
        given = [*args] if out is None else [*args, out]
        for x in given:
            if not isinstance(x, ndarray) and not scalar(x):
                raise TypeError(f"Unsupported type {type(x)}")
        parents = list(parents_of(*given))
        on_current_device(parents)
        if out is None:
            return wrap(self.of_numpy(*unwrap(args), **kwargs), parents)
        self.of_numpy(*unwrap(args), out=unwrap(out), **kwargs)
        return out

    def at(self, *_, **__):
        raise NotImplementedError("CuPy's `at` is atomic, in any order: no two runs agree to the last bit")

    def reduceat(self, *_, **__):
        raise NotImplementedError("CuPy's reduceat takes differences of running sums, which lose digits")


def function(of_numpy, name):
    @functools.wraps(of_numpy, updated=())
    def call(*args, **kwargs):
        if name not in MAKE | PLAIN:
            first = args[1:] if name == "einsum" else args[:3] if name == "where" else args[:1]
            if name in JOIN:
                (first,) = first
            for x in first:
                if not isinstance(x, ndarray) and not (name == "where" and scalar(x)):
                    raise TypeError(f"{name}: Unsupported type {type(x)}")
        parents = list(parents_of(*args, *kwargs.values()))
        if name not in PLAIN:
            on_current_device(parents)
        given = unwrap(args, name in MAKE), {key: unwrap(value) for key, value in kwargs.items()}
        return wrap(of_numpy(*given[0], **given[1]), parents)

    return call


@functools.cache
def lift(of_numpy, name):
    if isinstance(of_numpy, np.ufunc):
        return ufunc(of_numpy)
    return function(of_numpy, name)


class ndarray:
    """An array "on the GPU"."""

    __array_priority__ = 100
    __hash__ = None
    __cuda_array_interface__ = property(lambda self: {"shape": self.shape, "typestr": self.dtype.str, "version": 3})

    def __init__(self, *_, **__):
        raise TypeError("use cupy.empty")

    # --- what makes host and device meet ------------------------------------------------------------------------------

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, of_numpy, method, *inputs, **kwargs):
        name = of_numpy.__name__
        if method != "__call__" or not hasattr(cupy, name):
            return NotImplemented
        return getattr(cupy, name)(*inputs, **kwargs)

    def __array_function__(self, of_numpy, types, args, kwargs):
        try:
            module = functools.reduce(getattr, of_numpy.__module__.split(".")[1:], cupy)
            found = getattr(module, of_numpy.__name__)
        except AttributeError:
            return NotImplemented
        if any(t not in (ndarray, np.ndarray) for t in types):
            return NotImplemented
        return found(*args, **kwargs)

    def __dlpack__(self, **_):
        raise BufferError("the stand-in has no memory of CUDA to share")

    def __dlpack_device__(self):
        return 2, self._device

    def get(self):
        return self._array.copy()

    @property
    def device(self):
        return Device(self._device)

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def copy(self, order="C"):  # to the current device, wherever it is
        return array(self, order=order)

    # --- what NumPy's arrays have -------------------------------------------------------------------------------------

    @property
    def flags(self):
        flags = self._array.flags
        return SimpleNamespace(
            c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=self.base is None
        )

    shape = property(lambda self: self._array.shape)
    strides = property(lambda self: self._array.strides)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    nbytes = property(lambda self: self._array.nbytes)
    itemsize = property(lambda self: self._array.itemsize)
    T = property(lambda self: self.transpose())
    real = property(lambda self: wrap(self._array.real, [self], self._device))
    imag = property(lambda self: wrap(self._array.imag, [self], self._device))

    def __getattr__(self, name):
        method = getattr(self._array, name)  # raises AttributeError where NumPy has none, too
        if name.startswith("__") or name in LACKING_METHODS or not callable(method):
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        if name in ("item", "tolist", "tobytes"):
            return method

        def call(*args, **kwargs):
            host_index = name in ("take",)
            given = [unwrap(x, host_index) for x in args]
            named = {key: unwrap(value, host_index) for key, value in kwargs.items()}
            parents = [self, *parents_of(*args, *kwargs.values())]
            if name not in VIEWS:
                on_current_device(parents)
            return wrap(method(*given, **named), parents, self._device)

        return call

    def __getitem__(self, key):
        if any(isinstance(part, ndarray) for part in (key if isinstance(key, tuple) else (key,))):
            on_current_device([self, *parents_of(key)])
        index = unwrap(key, indices=True)
        y = self._array[index]
        if isinstance(y, np.generic):
            y = self._array[(*index, ...) if isinstance(index, tuple) else (index, ...)]
        return wrap(y, [self], self._device)

    def __setitem__(self, key, value):
        if not isinstance(value, ndarray) and not scalar(value):
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        on_current_device(parents_of(self, key, value))
        self._array[unwrap(key, indices=True)] = unwrap(value)

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __len__(self):
        return len(self._array)

    def __bool__(self):
        return bool(self._array)

    def __int__(self):
        return int(self._array)

    def __float__(self):
        return float(self._array)

    def __complex__(self):
        return complex(self._array)

    def __repr__(self):
        return repr(self._array)

    def __format__(self, spec):
        return format(self._array if self.ndim else self._array[()], spec)


def operator(name, symbol, reflected=False, in_place=False):
    def method(self, *others):
        # An operand that has its own operators and wants no ufunc comes first, as a Variable.
        if any(getattr(type(x), "__array_ufunc__", 0) is None for x in others):
            return NotImplemented
        if in_place:
            return getattr(cupy, symbol)(self, *others, out=self)
        return getattr(cupy, symbol)(*others, self) if reflected else getattr(cupy, symbol)(self, *others)

    setattr(ndarray, name, method)


for symbol, of_numpy in {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "matmul": "matmul", "lshift": "left_shift", "rshift": "right_shift",
}.items():  # fmt: skip
    operator(f"__{symbol}__", of_numpy)
    operator(f"__r{symbol}__", of_numpy, reflected=True)
    if symbol != "matmul":
        operator(f"__i{symbol}__", of_numpy, in_place=True)
for symbol, of_numpy in {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
    "neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert",
}.items():  # fmt: skip
    operator(f"__{symbol}__", of_numpy)


class Grid:
    """`ogrid`: index arrays for each axis."""

    def __getitem__(self, key):
        return wrap(np.ogrid[key])


class Module(ModuleType):
    """A module of CuPy: what is not written here is that of the module of NumPy or SciPy, lifted."""

    def __init__(self, name, twin, lacking=frozenset(), **members):
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.__path__ = []
        self._twin, self._lacking = twin, lacking
        self.__dict__.update(members)

    def __getattr__(self, name):
        found = None if name.startswith("_") or name in self._lacking else getattr(self._twin, name, None)
        if found is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return lift(found, name) if callable(found) and not isinstance(found, type) else found


def asnumpy(x):
    return x.get() if isinstance(x, ndarray) else np.asarray(x)


def asarray(x, dtype=None):
    if isinstance(x, ndarray) and dtype in (None, x.dtype) and x._device == current.device:
        return x
    return array(x, dtype)


def array(x, dtype=None, copy=True, order="K"):
    if isinstance(x, ndarray) and x._device != current.device and not (x.flags.c_contiguous or x.flags.f_contiguous):
        raise NotImplementedError("CuPy cannot copy non-contiguous array between devices.")
    return wrap(np.array(unwrap(x, indices=True), dtype, order=order), device=current.device)


class RawKernel:
    """A kernel of CUDA C++, which the compiler of this machine makes into a loop over the threads."""

    def __init__(self, code, name, options=()):
        self.run = cuda_shim.compiled(code, name)

    def __call__(self, grid, block, args):
        on_current_device(parents_of(*args))  # here CUDA would go wrong in silence
        self.run(grid, block, unwrap(args))


cuda = Module(
    "cupy.cuda",
    SimpleNamespace(),
    Device=Device,
    is_available=lambda: True,
    runtime=SimpleNamespace(getDeviceCount=lambda: DEVICES),
)
cupy = Module(
    "cupy",
    np,
    LACKING,
    ndarray=ndarray,
    RawKernel=RawKernel,
    cuda=cuda,
    array=array,
    asarray=asarray,
    asnumpy=asnumpy,
    get_array_module=lambda *xs: cupy if any(isinstance(x, ndarray) for x in xs) else np,
    ogrid=Grid(),
    linalg=Module("cupy.linalg", np.linalg, LACKING_LINALG),
    lib=SimpleNamespace(stride_tricks=Module("cupy.lib.stride_tricks", np.lib.stride_tricks)),
)
special = Module("cupyx.scipy.special", scipy.special)
MODULES = {
    "cupy": cupy,
    "cupy.cuda": cuda,
    "cupyx": Module("cupyx", SimpleNamespace()),
    "cupyx.scipy": Module("cupyx.scipy", SimpleNamespace()),
    "cupyx.scipy.special": special,
}


@contextmanager
def installed():
    """`import cupy` gives the stand-in inside."""
    before = {name: sys.modules.get(name) for name in MODULES}
    sys.modules.update(MODULES)
    try:
        yield cupy
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
