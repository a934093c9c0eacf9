"""What runs in a process of its own: a row, and each of its sides for the memory.

Neither side's memory shall hold the other's library, and no row be faster or slower for what another one left.
"""

from benchmarks.harness import Result, measure, peak_mb
from benchmarks.workloads import WORKLOADS

STEPS = 10  # from the second on, a step needs no more memory than the one before


def row(name: str, compiled: bool) -> Result:
    """Measure a workload."""
    return measure(WORKLOADS[name], compiled=compiled)


def peak_mb_of(name: str, side: str) -> float | None:
    """Run the side's step, "ours" or "torch", and return the peak in 10⁶ bytes; None where the system does not tell."""
    workload = WORKLOADS[name]
    step = workload.ours() if side == "ours" else workload.torch()
    for _ in range(STEPS):
        step()
    return peak_mb()
