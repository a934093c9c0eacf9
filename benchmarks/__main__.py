"""`python -m benchmarks [NAME …] [--compile] [--json FILE]`: measure workloads and print a table."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.child import row
from benchmarks.harness import Result, apart
from benchmarks.workloads import WORKLOADS

# Heading and the field of `Result` under it.
_COLUMNS = (
    ("workload", "name"),
    ("ours ms", "ours_ms"),
    ("torch ms", "torch_ms"),
    ("compiled ms", "torch_compiled_ms"),
    ("ratio", "ratio"),
    ("floor ms", "floor_ms"),
    ("floor ratio", "floor_ratio"),
    ("ours MB", "ours_peak_mb"),
    ("torch MB", "torch_peak_mb"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the named workloads, by default all.

    Args:
        arguments: the words after `python -m benchmarks`; by default those of the command line.

    Raises:
        SystemExit: with status 2 and the usage, where no workload has such a name or beginning.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time training steps beside PyTorch's, if installed, and beside their matrix products alone.",
        epilog="Workloads:\n" + "\n".join(f"  {w.name}: {w.text}" for w in WORKLOADS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="workloads, or the beginning of their names; by default all"
    )
    parser.add_argument("--compile", action="store_true", help="also measure PyTorch through torch.compile")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    options = parser.parse_args(arguments)
    names = [] if options.names else list(WORKLOADS)
    for given in options.names:
        named = [given] if given in WORKLOADS else [name for name in WORKLOADS if name.startswith(given)]
        if not given or not named:
            parser.error(f"unknown workload {given!r}; choose from {', '.join(WORKLOADS)}")
        names += [name for name in named if name not in names]
    results = apart(row, names, [options.compile] * len(names))
    print(file=sys.stderr)  # ends the line of progress
    print(table(results))
    if options.json:
        rows = [dataclasses.asdict(result) for result in results]
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def table(results: Sequence[Result]) -> str:
    """Format results, one row each, and under them the threads and the BLAS that they were measured with."""
    rows = [[heading for heading, _ in _COLUMNS]]
    rows += [[_cell(getattr(result, field)) for _, field in _COLUMNS] for result in results]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])  # names left, numbers right
        for row in rows
    ]
    conditions = sorted({f"{result.threads} threads, {result.blas}" for result in results})
    return "\n".join([*lines, *conditions])


def _cell(value: str | float | None) -> str:
    """A name as it is, a number with three significant digits, "-" for what was not measured."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:#.3g}".rstrip(".")


if __name__ == "__main__":
    main()
