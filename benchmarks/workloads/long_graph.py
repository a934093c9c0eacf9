"""A chain of many small operations: an operation must not cost more in a graph of 100,000 than in one of 1,000."""

from benchmarks.harness import Step, Workload
from benchmarks.workloads import overhead

LENGTHS = (1_000, 100_000)


def workload(length: int) -> Workload:
    """The chain of `overhead`, of another length."""

    def ours() -> Step:
        return overhead.ours(length // 4)

    def pytorch(compiled: bool = False) -> Step:
        return overhead.pytorch(False, length // 4)  # a compiler would unroll it for hours

    return Workload(
        name=f"graph_{length}",
        text=f"one operation of a chain of {length:,} on 10 numbers, forward and backward",
        ours=ours,
        torch=pytorch,
        floor=overhead.floor,
        operations=length,
    )


WORKLOADS = [workload(length) for length in LENGTHS]
