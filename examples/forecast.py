"""C1 — an autoregressive forecast of a noisy sine, one step ahead and many (*Dive into Deep Learning*, 9.1).

    python -m examples.forecast

fits x_t = w · (x_{t-τ}, …, x_{t-1}) + b to the first 600 points, and prints how far the forecasts of the last 330 or so
are off: k steps ahead, the model has only its own forecasts to go on for the last k - 1 of them, and errors add up.
Leaves in runs/forecast/ the pictures of that section: 1 to 64 steps ahead, and all steps from point 604 on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tyro

import tinygrad_nlp as tn
from examples import cli
from examples.cli import command
from tinygrad_nlp import nn, optim, plot
from tinygrad_nlp.data import DataLoader
from tinygrad_nlp.training import ProgressBar, Trainer, output_folder


@dataclass
class Settings:
    """Fit a linear model to a noisy sine, and forecast."""

    points: int = 1000
    """length of the series x_t = sin(0.01 t) + noise"""
    noise: float = 0.2
    """standard deviation of the noise"""
    tau: int = 4
    """τ: how many values the model sees"""
    train: int = 600
    """examples to train on, from the start"""
    ahead: tuple[int, ...] = (1, 4, 16, 64)
    """k: how many steps ahead"""
    batch_size: int = 16
    """examples in a mini-batch"""
    lr: float = 0.01
    """learning rate of SGD"""
    epochs: int = 5
    """times through the examples"""
    seed: int = 0
    """of the noise, the weights and the order of the examples"""
    out: str = "runs/forecast"
    """folder for the pictures"""


def forecast(model: nn.Linear, windows: np.ndarray, steps: int) -> np.ndarray:
    """Values (N, steps) that follow windows (N, τ): each forecast is taken for the truth by the next."""
    tau = windows.shape[1]
    with tn.no_grad():
        for _ in range(steps):
            windows = np.concatenate((windows, model(tn.Variable(windows[:, -tau:])).data), axis=1)
    return windows[:, tau:]


@command
def main(settings: Settings) -> dict[int, float]:
    """Fit, forecast and draw.

    Returns:
        For each k the root mean square error of what is forecast k steps ahead, in the unit of the series.
    """
    tau, train, longest = settings.tau, settings.train, max(settings.ahead, default=0)
    if tau < 1 or settings.epochs < 1 or min(settings.ahead, default=0) < 1:
        raise ValueError("--tau, --epochs and every --ahead must be at least 1")
    if not 0 < train < settings.points - tau - longest:
        raise ValueError(f"--train must lie between 0 and {settings.points - tau - longest}, not {train}")
    out = output_folder(settings.out)
    tn.manual_seed(settings.seed)
    time = np.arange(1, settings.points + 1)
    noise = np.random.default_rng(settings.seed).standard_normal(settings.points)
    series = (np.sin(0.01 * time) + settings.noise * noise).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(series, tau)[:-1]  # windows[i] comes before series[i + tau]

    model = nn.Linear(tau, 1)
    trainer = Trainer(
        model,
        optim.SGD(model.parameters(), lr=settings.lr),
        lambda x, y: ((model(x) - y) ** 2).mean(),
        callbacks=[ProgressBar(unit="points")],
    )
    examples = windows[:train], series[tau : tau + train, None]
    trainer.fit(DataLoader(examples, settings.batch_size, seed=settings.seed), settings.epochs)

    errors = {}
    ahead_of: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    values = forecast(model, windows, longest)
    for k in settings.ahead:
        # Row i of `values` is at the times i + tau, i + tau + 1, …
        at = np.arange(tau + k - 1, settings.points)
        ahead = values[: len(at), k - 1]
        ahead_of[f"{k} step{'s' * (k > 1)} ahead"] = {"data": (time, series), "forecast": (time[at], ahead)}
        held_out = at >= tau + train + longest - 1  # the same points for every k, none of which was trained on
        errors[k] = float(np.sqrt(np.mean((ahead - series[at])[held_out] ** 2)))
        print(f"{k:3d} step{'s' if k > 1 else ' '} ahead: error {errors[k]:.3f}")

    start = tau + train
    free = forecast(model, series[None, train:start], settings.points - start)[0]
    all_steps = {
        "data": (time, series),
        "1 step ahead": (time[tau:], values[:, 0]),
        f"all steps from {start} on": (time[start:], free),
    }
    labels, faint = ("time $t$", "$x_t$"), ("data",)
    print(plot.save(plot.panels(ahead_of, *labels, faint=faint), out / "ahead.png"))
    print(plot.save(plot.lines(all_steps, *labels, faint=faint), out / "free_running.png"))
    return errors


if __name__ == "__main__":
    cli.write_utf8()
    main(tyro.cli(Settings, prog="python -m examples.forecast", description=__doc__))
