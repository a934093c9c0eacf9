"""`python -m benchmarks.scaling`: what a training step costs against the steps T of a window and the words V.

Both should be linear: the slope of the logarithm of the time against that of T or V is then 1. It is printed for the
upper half of the sizes, where what each step costs besides counts for little. Picture: `docs/figures/scaling.png`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import Step
from benchmarks.workloads.language_models import Model, ours

STEPS = (16, 32, 64, 128, 256, 512, 1024)
WORDS = (1_000, 3_000, 10_000, 30_000, 100_000)
WARM_UP, SAMPLES = 3, 7
PICTURE = Path(__file__).parents[1] / "docs" / "figures" / "scaling.png"


def of_steps(steps: int) -> Model:
    """An LSTM (100) of 1,000 words, batch 20, that reads so many steps."""
    return Model("LSTM", 1_000, 100, 100, batch=20, steps=steps, lr=0.1)


def of_words(words: int) -> Model:
    """An LSTM (100) of so many words, batch 20, 35 steps."""
    return Model("LSTM", words, 100, 100, batch=20, steps=35, lr=0.1)


def milliseconds(step: Step) -> float:
    """The median time of a step, behind some that warm up threads and memory."""
    for _ in range(WARM_UP):
        step()
    samples = []
    for _ in range(SAMPLES):
        start = time.perf_counter()
        step()
        samples.append(time.perf_counter() - start)
    return 1e3 * statistics.median(samples)


def slope(sizes: Sequence[float], times: Sequence[float]) -> float:
    """The exponent p of time ~ size^p, fitted to the upper half of the sizes.

    Args:
        sizes: rising (L,), L ≥ 2.
        times: (L,), in any unit.

    Returns:
        p: 1 where the time is linear.
    """
    upper = slice((len(sizes) - 1) // 2, None)
    return float(np.polyfit(np.log(sizes[upper]), np.log(times[upper]), 1)[0])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and draw.

    Args:
        arguments: the words behind `python -m benchmarks.scaling`; by default those of the command line.
    """
    from tinygrad_nlp import plot

    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--out", type=Path, default=PICTURE, metavar="FILE", help="picture, .png or .svg")
    out = parser.parse_args(arguments).out
    curves = {}
    for name, symbol, sizes, model_of in (("steps", "T", STEPS, of_steps), ("words", "V", WORDS, of_words)):
        times = [milliseconds(ours(model_of(size))) for size in sizes]
        exponent = slope(sizes, times)
        for size, ms in zip(sizes, times, strict=True):
            print(f"{name} {symbol} {size:>7,}  {ms:8.2f} ms  {1e3 * ms / size:8.2f} µs for each")
        print(f"{name} {symbol}: time ~ {symbol}^{exponent:.2f}")
        curves[f"{name} ${symbol}$: time ~ ${symbol}^{{{exponent:.2f}}}$"] = sizes, times
    figure = plot.lines(curves, "$T$ or $V$", "a training step / ms", log_x=True, log_y=True)
    print(plot.save(figure, out))


if __name__ == "__main__":
    main()
