"""What runs in a process of its own: a row, and for its memory each side (`WORKLOAD ours|torch` prints the peak).

Neither side's memory shall hold the other's library, and no row be faster or slower for what another one left.
"""

import sys

from benchmarks.harness import Result, measure, peak_mb
from benchmarks.workloads import WORKLOADS

STEPS = 10  # from the second on, a step needs no more memory than the one before


def row(name: str, compiled: bool) -> Result:
    """Measure a workload."""
    return measure(WORKLOADS[name], compiled=compiled)


def main(name: str, side: str) -> None:
    """Run the side's step and print the peak in 10⁶ bytes, or None where the system does not tell."""
    workload = WORKLOADS[name]
    step = workload.ours() if side == "ours" else workload.torch()
    for _ in range(STEPS):
        step()
    print(peak_mb())


if __name__ == "__main__":
    main(*sys.argv[1:])
