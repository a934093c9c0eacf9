"""`python -m tinygrad_nlp doctor`: what is at work under the library on this machine, and what would mend it.

Each check is a function that returns `Finding`s, and `report` turns them into text. Optional packages are
looked for, not imported.
"""

import ctypes
import importlib.util
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

from . import backend, tuning
from .data import find

# OpenBLAS's names for its kernels that use AVX-512, and what these ask of the CPU, in Linux's words.
_AVX512_KERNELS = {"SkylakeX", "Cooperlake", "SapphireRapids"}
_AVX512_FLAGS = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_PF_AVX512F_INSTRUCTIONS_AVAILABLE = 41  # from the Windows SDK's winnt.h

# Module, what it is for, how to get it.
_OPTIONAL_PARTS = (
    ("matplotlib", "plots of data, curves and attention", 'pip install "tinygrad_nlp[viz]"'),
    ("pooch", "downloaded data", 'pip install "tinygrad_nlp[data]"'),
    ("tokenizers", "pieces of words (BPE)", 'pip install "tinygrad_nlp[text]"'),
    ("tyro", "flags of the examples", 'pip install "tinygrad_nlp[examples]"'),
    ("torch", "only the opponent in the benchmarks", "pip install torch"),
)


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        ok: whether all is well.
        text: what was found.
        mend: what can be done about it, or "".
    """

    ok: bool
    text: str
    mend: str = ""


def diagnose() -> list[Finding]:
    """The findings on every part that the library can use, in the order of the report; takes a fifth of a second."""
    return [
        *check_versions(),
        *check_blas(),
        check_speed(),
        *check_tuning(),
        check_gpu(),
        check_graph_drawing(),
        *check_optional_parts(),
        check_data(),
    ]


def report(findings: list[Finding]) -> str:
    """Findings as text, one line each: ✓ or –, what was found, and after an arrow what can be done.

    Args:
        findings: what `diagnose` gives.

    Returns:
        The lines, without a newline at the end.
    """
    return "\n".join(
        f"{'✓' if finding.ok else '–'} {finding.text}" + (f"  → {finding.mend}" if finding.mend else "")
        for finding in findings
    )


def check_versions() -> list[Finding]:
    """The versions of Python and of the two libraries that compute."""
    return [
        Finding(True, f"Python {platform.python_version()} ({platform.system()}, {platform.machine()})"),
        Finding(True, f"NumPy {np.__version__}"),
        Finding(True, f"SciPy {metadata.version('scipy')}"),
    ]


def check_blas() -> list[Finding]:
    """The libraries that multiply matrices, the kernels that they chose for this CPU, and their threads."""
    libraries = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    if not libraries:  # Apple's Accelerate, for one
        return [Finding(True, "BLAS: none that threadpoolctl can look into")]
    threads = sorted({library["num_threads"] for library in libraries})
    return [*map(_check_kernels, libraries), _check_threads(threads)]


def _check_kernels(library: dict[str, Any]) -> Finding:
    # NumPy's and SciPy's wheels bring a BLAS each, in folders named numpy.libs and scipy.libs.
    text = f"BLAS in {Path(library['filepath']).parent.name}: {library['internal_api']} {library['version']}"
    architecture = library.get("architecture")  # not every library tells
    if architecture:
        text += f", {architecture} kernels"
    if library["internal_api"] != "openblas" or not cpu_has_avx512():
        return Finding(True, text)
    if architecture in _AVX512_KERNELS:
        return Finding(True, f"{text} (AVX-512)")
    forced = os.environ.get("OPENBLAS_CORETYPE")
    return Finding(
        False,
        f"{text}, although this CPU has AVX-512",
        f"unset OPENBLAS_CORETYPE={forced}, which asks for them"
        if forced
        else "set OPENBLAS_CORETYPE=SkylakeX in the environment before Python starts",
    )


def _check_threads(threads: list[int]) -> Finding:
    cores = _available_cores()
    text = f"BLAS threads: {' and '.join(map(str, threads))}, on {cores} available cores"
    if threads == [cores]:
        return Finding(True, text)
    variables = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    found = [f"{name}={os.environ[name]}" for name in variables if name in os.environ]
    return Finding(False, text, f"unset {' and '.join(found)}, unless you chose so" if found else "")


def check_speed(size: int = 2048) -> Finding:
    """Time the product of two square float32 matrices, best of three.

    Args:
        size: of their sides.

    Returns:
        A finding in GFLOP/s: 10⁹ multiplications and additions a second, of which the product has 2 size³.
    """
    a = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    out = np.empty_like(a)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        np.matmul(a, a, out=out)
        seconds.append(time.perf_counter() - start)
    # Each of the size² results takes size multiplications and as many additions.
    gflops = 2 * size**3 / min(seconds) / 1e9
    return Finding(True, f"Speed: {gflops:.0f} GFLOP/s in a float32 matrix product of {size} × {size}")


def check_tuning() -> list[Finding]:
    """What `tuning.apply` did when the library was imported."""
    return [
        Finding(
            tuned.applied or tuned.reason.startswith("not needed"),
            f"{tuned.what.capitalize()}: {'tuned; ' if tuned.applied else ''}{tuned.reason}",
        )
        for tuned in tuning.apply()
    ]


def check_gpu() -> Finding:
    """CuPy, and a GPU that it can use."""
    if importlib.util.find_spec("cupy") is None:
        mend = 'with an NVIDIA GPU: pip install "tinygrad_nlp[cuda12]" (or [cuda13])'
        return Finding(False, "GPU: CuPy is not installed", mend)
    if not backend.cuda_is_available():
        mend = "see whether nvidia-smi lists one; if not, install NVIDIA's driver"
        return Finding(False, "GPU: CuPy is installed, but finds no usable GPU", mend)
    return Finding(True, f"GPU: CuPy can use {backend.cuda_device_count()}")


def check_graph_drawing() -> Finding:
    """Graphviz, as its `dot` command or inside the pygraphviz package."""
    if dot := shutil.which("dot"):
        return Finding(True, f"Graph drawing: {dot}")
    if importlib.util.find_spec("pygraphviz") is not None:
        return Finding(True, "Graph drawing: pygraphviz")
    mend = 'install Graphviz, or pip install "tinygrad_nlp[viz]"'
    return Finding(False, "Graph drawing: no dot command and no pygraphviz", mend)


def check_optional_parts() -> list[Finding]:
    """The packages that some parts of the library use where they are installed."""
    findings = []
    for module, purpose, mend in _OPTIONAL_PARTS:
        if importlib.util.find_spec(module) is not None:
            findings.append(Finding(True, f"{module}: {purpose}"))
        else:
            findings.append(Finding(False, f"{module}: not installed ({purpose})", mend))
    return findings


def check_data() -> Finding:
    """The real data that the examples use instead of made data: in the user's own folder, or downloaded before."""
    folder = os.environ.get("TINYGRAD_NLP_DATA", "")
    if not folder:
        if cached := find("dlfs2/date.txt"):
            return Finding(True, f"Data: {cached}")
        mend = "set TINYGRAD_NLP_DATA to a folder of real data; without it the examples make their own"
        return Finding(False, "Data: TINYGRAD_NLP_DATA is not set", mend)
    if not Path(folder).expanduser().is_dir():
        mend = "make the folder, or correct the variable"
        return Finding(False, f"Data: TINYGRAD_NLP_DATA is {folder}, which is no folder", mend)
    return Finding(True, f"Data: {folder}")


def cpu_has_avx512() -> bool:
    """Whether CPU and system offer what OpenBLAS's AVX-512 kernels use; False where that cannot be told."""
    if sys.platform == "win32":
        return bool(ctypes.windll.kernel32.IsProcessorFeaturePresent(_PF_AVX512F_INSTRUCTIONS_AVAILABLE))
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
        return set(flags.split()) >= _AVX512_FLAGS
    return False


def _available_cores() -> int:
    """The cores that this process may use, where the operating system tells, else those of the machine."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
