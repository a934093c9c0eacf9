"""The measuring: what a workload is, how its sides are timed in turns, and what a row of results holds.

A *side* is one way to do a workload's step: this library, PyTorch, compiled PyTorch, or the step's matrix
products alone. How the comparison is made fair is told in `benchmarks/README.md`.
"""

import importlib.util
import math
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import threadpoolctl

T = TypeVar("T")
Step = Callable[[], object]

ROUNDS = 15
SAMPLE_SECONDS = 0.02
# A system that was at rest may leave two threads on one core for so long: the first step after a pause of 200 ms took
# 58 ms where the next ones took 37.
WARM_UP_SECONDS = 0.1
SETTLE_SECONDS = 0.01  # between two looks whether threads still wait busily
SETTLES_AT_MOST = 100  # looks: some thread may never rest


@dataclass(frozen=True)
class Product:
    """Matrix products (m, k) @ (k, n): `count` of them one after another, each over a batch of `batch`."""

    m: int
    k: int
    n: int
    count: int = 1
    batch: int = 1

    @property
    def flops(self) -> int:
        """Floating-point operations of all of them: m · n sums of k products each."""
        return 2 * self.m * self.k * self.n * self.count * self.batch


class MakeTorchStep(Protocol):
    """Builds PyTorch's side; imports torch only when called."""

    def __call__(self, compiled: bool = False) -> Step:
        """Return the step, run through `torch.compile` where `compiled`."""


@dataclass(frozen=True)
class Workload:
    """The same work for this library and for PyTorch.

    Attributes:
        name: what it is called on the command line.
        text: what it measures, in a line or two.
        ours: builds this library's side; imports tinygrad_nlp only when called.
        torch: builds PyTorch's side.
        floor: lists the matrix products that the step cannot do without; empty where there are none.
        operations: how many operations a step consists of, where the row is to give the time of one.
        memory: whether the peak memory is measured, which takes a process for each side.
    """

    name: str
    text: str
    ours: Callable[[], Step]
    torch: MakeTorchStep
    floor: Callable[[], list[Product]]
    operations: int = 1
    memory: bool = True


@dataclass(frozen=True)
class Result:
    """One row. Times are medians in milliseconds, of a step or of one operation; None is "not measured".

    Attributes:
        name: of the workload.
        ours_ms: this library.
        torch_ms: PyTorch as it is.
        torch_compiled_ms: PyTorch through `torch.compile`.
        ratio: `ours_ms` over the faster of the two; below 1 this library is faster.
        floor_ms: the step's matrix products alone, by the faster of NumPy's and PyTorch's BLAS.
        floor_ratio: `ours_ms` over `floor_ms`.
        ours_peak_mb: most memory (10⁶ bytes) that a process which runs this library's side alone ever held.
        torch_peak_mb: the same for PyTorch as it is.
        threads: of each BLAS.
        blas: NumPy's, with its version and the kernels that it chose.
    """

    name: str
    ours_ms: float
    torch_ms: float | None
    torch_compiled_ms: float | None
    ratio: float | None
    floor_ms: float | None
    floor_ratio: float | None
    ours_peak_mb: float | None
    torch_peak_mb: float | None
    threads: int
    blas: str


def apart(function: Callable[..., T], *arguments: Iterable[Any]) -> list[T]:
    """Call `function` with the first of all arguments, with the second, and so on, each time in a new process.

    Args:
        function: that of a module, which a new process can import.
        *arguments: as for `map`; what can be pickled.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn, max_tasks_per_child=1) as processes:
        return list(processes.map(function, *arguments))


def measure(workload: Workload, *, compiled: bool = False, rounds: int = ROUNDS) -> Result:
    """Measure one workload: the memory of each side in a process of its own, then all times in this one.

    Args:
        workload: what to measure; one of `benchmarks.workloads.WORKLOADS`, where those processes find it by
            its name.
        compiled: whether to measure `torch.compile`d PyTorch too. Ignored without PyTorch.
        rounds: how often each side is timed.
    """
    threads, blas = _blas()
    with_torch = importlib.util.find_spec("torch") is not None
    ours_peak_mb = torch_peak_mb = None
    if workload.memory:
        _progress(f"{workload.name}: memory")
        ours_peak_mb = _peak_mb_of_child(workload.name, "ours")
        torch_peak_mb = _peak_mb_of_child(workload.name, "torch") if with_torch else None

    _progress(f"{workload.name}: building the sides")
    products = workload.floor()
    sides = {"ours": workload.ours()}
    if products:
        sides["floor_numpy"] = numpy_products(products)
    if with_torch:
        import torch

        torch.set_num_threads(threads)
        sides["torch"] = workload.torch()
        if compiled:
            sides["torch_compiled"] = workload.torch(compiled=True)
        if products:
            sides["floor_torch"] = torch_products(products)

    def progress(i: int) -> None:
        _progress(f"{workload.name}: round {i + 1} of {rounds}")

    seconds = interleave(sides, rounds, progress)
    ms = {side: 1e3 * s / workload.operations for side, s in seconds.items()}
    torch_best = min((ms[side] for side in ("torch", "torch_compiled") if side in ms), default=None)
    floor_ms = min((ms[side] for side in ("floor_numpy", "floor_torch") if side in ms), default=None)
    return Result(
        name=workload.name,
        ours_ms=ms["ours"],
        torch_ms=ms.get("torch"),
        torch_compiled_ms=ms.get("torch_compiled"),
        ratio=None if torch_best is None else ms["ours"] / torch_best,
        floor_ms=floor_ms,
        floor_ratio=None if floor_ms is None else ms["ours"] / floor_ms,
        ours_peak_mb=ours_peak_mb,
        torch_peak_mb=torch_peak_mb,
        threads=threads,
        blas=blas,
    )


def interleave(
    sides: Mapping[str, Step], rounds: int, progress: Callable[[int], None] = lambda i: None
) -> dict[str, float]:
    """Time all sides in turns (A B C A B C …), so that a machine that slows down does so for each of them.

    A turn is a pause, until the worker threads of the side before sleep; steps that do not count, in which this side's
    threads and caches wake up; and the sample that counts.

    Args:
        sides: steps by name, timed in this order.
        rounds: turns of each side, and so samples in its median.
        progress: told the number of each round, from 0, before it starts.

    Returns:
        Each side's median seconds per step.
    """
    lengths = {name: _steps_of_turn(step) for name, step in sides.items()}
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds):
        progress(i)
        for name, step in sides.items():
            warm_up, sample = lengths[name]
            _settle()
            _time(step, warm_up)
            samples[name].append(_time(step, sample))
    return {name: statistics.median(values) for name, values in samples.items()}


def _steps_of_turn(step: Step) -> tuple[int, int]:
    """How many steps warm up and how many are the sample, at least one each: a clock does not see microseconds well."""
    step()  # the first step also compiles, or makes the optimizer's state
    seconds = _time(step, 3)
    return max(1, math.ceil(WARM_UP_SECONDS / seconds)), max(1, math.ceil(SAMPLE_SECONDS / seconds))


def _settle() -> None:
    """Wait until no thread of this process computes: BLAS's wait busily for the next product, for 25 to 110 ms."""
    for _ in range(SETTLES_AT_MOST):
        before = time.process_time()
        time.sleep(SETTLE_SECONDS)
        if time.process_time() - before < SETTLE_SECONDS / 10:
            return


def _time(step: Step, repeats: int) -> float:
    """Seconds per step over `repeats` steps."""
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - start) / repeats


def numpy_products(products: Sequence[Product]) -> Step:
    """A step that does the products with NumPy, on float32 arrays and into results that are allocated once."""
    rng = np.random.default_rng(0)

    def matrix(batch: int, rows: int, columns: int) -> np.ndarray:
        shape = (rows, columns) if batch == 1 else (batch, rows, columns)
        return rng.standard_normal(shape, dtype=np.float32)

    work = [
        (matrix(p.batch, p.m, p.k), matrix(p.batch, p.k, p.n), matrix(p.batch, p.m, p.n), p.count) for p in products
    ]

    def step() -> None:
        for a, b, out, count in work:
            for _ in range(count):
                np.matmul(a, b, out=out)

    return step


def torch_products(products: Sequence[Product]) -> Step:
    """The same step with PyTorch."""
    import torch

    work = []
    for p in products:
        batch = () if p.batch == 1 else (p.batch,)
        operands = (
            torch.randn(*batch, p.m, p.k),
            torch.randn(*batch, p.k, p.n),
            torch.empty(*batch, p.m, p.n),
        )
        work.append((torch.mm if p.batch == 1 else torch.bmm, *operands, p.count))

    def step() -> None:
        for multiply, a, b, out, count in work:
            for _ in range(count):
                multiply(a, b, out=out)

    return step


def peak_mb() -> float | None:
    """The most memory that this process has held, in 10⁶ bytes; None on Windows."""
    if sys.platform == "win32":
        return None
    if sys.platform == "linux":
        # Not ru_maxrss: on Linux a process inherits it from the one that started it, through fork and exec.
        with open("/proc/self/status", encoding="utf-8") as lines:
            kibibytes = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
        return int(kibibytes) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS counts bytes


def _peak_mb_of_child(name: str, side: str) -> float | None:
    """Run one side alone in a new process and return the peak memory that it reports."""
    from benchmarks.child import peak_mb_of  # which imports this file

    return apart(peak_mb_of, [name], [side])[0]


def _blas() -> tuple[int, str]:
    """The threads of NumPy's BLAS, and its name with version and kernels."""
    libraries = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    if not libraries:  # such as Apple's Accelerate, which decides on threads by itself
        name = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
        return os.cpu_count() or 1, str(name)
    # SciPy's wheel brings a BLAS of its own, and so does PyTorch's.
    library = next((library for library in libraries if "numpy" in library["filepath"]), libraries[0])
    words = (library["internal_api"], library["version"], library.get("architecture"))
    return library["num_threads"], " ".join(word for word in words if word)


def _progress(text: str) -> None:
    """Show what is being done on standard error, in one line that each call overwrites."""
    print(f"\r{text:<60}", end="", file=sys.stderr, flush=True)
