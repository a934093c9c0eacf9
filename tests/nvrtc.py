"""NVIDIA's runtime compiler, which needs no GPU: `compile` makes machine code of CUDA C++ for one kind of GPU."""

import ctypes
import importlib.util
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from pathlib import Path


def load():
    """The library of the wheel nvidia-cuda-nvrtc-cu12, or None."""
    try:
        spec = importlib.util.find_spec("nvidia.cuda_nvrtc")
    except ModuleNotFoundError:
        return None
    for place in spec.submodule_search_locations if spec else ():
        for found in [*Path(place).glob("lib/libnvrtc.so.*"), *Path(place).glob("bin/nvrtc64_*_0.dll")]:
            return ctypes.CDLL(str(found))
    return None


LIBRARY = load()


def compile(code, architecture):
    """The machine code of a program for "sm_90" and so on; RuntimeError with the compiler's words if it has faults."""
    program = c_void_p()
    create = LIBRARY.nvrtcCreateProgram
    create.argtypes = [POINTER(c_void_p), c_char_p, c_char_p, c_int, c_void_p, c_void_p]
    assert create(byref(program), code.encode(), b"kernel.cu", 0, None, None) == 0
    try:
        # Those that CuPy gives for a RawKernel (cupy/cuda/compiler.py).
        flags = f"--gpu-architecture={architecture}", "--std=c++17", "-ftz=true", "--device-as-default-execution-space"
        options = (c_char_p * len(flags))(*map(str.encode, flags))
        if LIBRARY.nvrtcCompileProgram(program, len(flags), options):
            raise RuntimeError(_text(program, "ProgramLog").decode())
        return _text(program, "CUBIN")
    finally:
        LIBRARY.nvrtcDestroyProgram(byref(program))


def _text(program, what):
    size = c_size_t()
    assert getattr(LIBRARY, f"nvrtcGet{what}Size")(program, byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert getattr(LIBRARY, f"nvrtcGet{what}")(program, text) == 0
    return text.raw
