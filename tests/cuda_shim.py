"""Kernels of CUDA on the CPU: a C++ compiler makes a loop over the threads of them, one after the other.

For kernels whose threads do not wait for each other. It cannot show races, CUDA's rounding, or a wrong address that
lies in the memory of the process.
"""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

# What CUDA gives every kernel, and a `run` that is called as the driver calls one: with an address for each argument.
HEADER = """
#include <math.h>
#include <stddef.h>
#include <utility>
#define __global__
static struct { unsigned x; } threadIdx, blockIdx, blockDim, gridDim;
template <typename... A, size_t... I>
void each(void (*kernel)(A...), void** given, std::index_sequence<I...>) {
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x) kernel(*static_cast<A*>(given[I])...);
}
template <typename... A>
int start(void (*kernel)(A...), void** given, const int* sizes, int count) {
    const int wanted[] = {int(sizeof(A))...};
    if (count != int(sizeof...(A))) return -1;
    for (int i = 0; i < count; ++i) if (sizes[i] != wanted[i]) return i + 1;
    each(kernel, given, std::make_index_sequence<sizeof...(A)>());
    return 0;
}
"""
RUN = """
extern "C" __attribute__((visibility("default")))
int run(unsigned blocks, unsigned threads, void** given, const int* sizes, int count) {
    gridDim.x = blocks, blockDim.x = threads;
    return start(%s, given, sizes, count);
}
"""
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@functools.cache
def folder():
    return tempfile.TemporaryDirectory(prefix="kernels-", ignore_cleanup_errors=True)


@functools.cache
def compiled(code, name):
    """A function of (grid, block, arguments), arrays of NumPy and scalars of its dtypes; skips without a compiler."""
    if COMPILER is None:
        pytest.skip("a kernel of CUDA runs on the CPU with a C++ compiler only; there is none")
    path = Path(folder().name) / f"{abs(hash((code, name)))}"
    path.with_suffix(".cpp").write_text(HEADER + code + RUN % name, encoding="utf-8")
    # Hidden, or a kernel of the name of a function of libc, as `step`, would be that one.
    command = [COMPILER, "-std=c++17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Werror"]
    subprocess.run([*command, path.with_suffix(".cpp"), "-o", path.with_suffix(".so")], check=True, timeout=60)
    library = ctypes.CDLL(str(path.with_suffix(".so")))

    def run(grid, block, arguments):
        if len(grid) != 1 or len(block) != 1 or not 0 < grid[0] < 2**31 or not 0 < block[0] <= 1024:
            raise ValueError(f"CUDA_ERROR_INVALID_VALUE: grid {grid}, block {block}")
        held = [ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray) else np.asarray(a) for a in arguments]
        at = [a.ctypes.data if isinstance(a, np.ndarray) else ctypes.addressof(a) for a in held]
        sizes = [a.itemsize if isinstance(a, np.ndarray) else ctypes.sizeof(a) for a in held]
        count = len(held)
        wrong = library.run(grid[0], block[0], (ctypes.c_void_p * count)(*at), (ctypes.c_int * count)(*sizes), count)
        if wrong:
            raise TypeError(f"{name}: {count} arguments were given" if wrong < 0 else f"{name}: argument {wrong}")

    return run
