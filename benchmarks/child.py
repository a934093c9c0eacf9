"""A process that runs one side of one workload alone and prints its peak memory: `WORKLOAD ours|torch`.

The harness starts it, so that neither side's memory holds the other's library.
"""

import sys

from benchmarks.harness import peak_mb
from benchmarks.workloads import WORKLOADS

STEPS = 10  # from the second on, a step needs no more memory than the one before


def main(name: str, side: str) -> None:
    """Run the side's step and print the peak in 10⁶ bytes, or None where the system does not tell."""
    workload = WORKLOADS[name]
    step = workload.ours() if side == "ours" else workload.torch()
    for _ in range(STEPS):
        step()
    print(peak_mb())


if __name__ == "__main__":
    main(*sys.argv[1:])
