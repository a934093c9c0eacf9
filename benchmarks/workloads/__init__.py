"""The workloads by name. Loading them imports neither tinygrad_nlp nor torch; building a side does."""

from benchmarks.harness import Workload
from benchmarks.workloads import dates, language_models, long_graph, mlp, operations, overhead, spiral

WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        spiral.WORKLOAD,
        dates.WORKLOAD,
        overhead.WORKLOAD,
        *language_models.WORKLOADS,
        *long_graph.WORKLOADS,
        *mlp.WORKLOADS,
        *operations.WORKLOADS,
    )
}
