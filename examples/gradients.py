"""C8 and C10 — how gradients vanish and explode on their way back through time, and what is done about it.

    python -m examples.gradients

prints the figures and leaves their pictures in runs/gradients/:

- chain.png: the experiment of *Deep Learning from Scratch 2*, ch. 6: ∂Σh_T/∂h_t where h_{t+1} = h_t W, for W from a
  standard normal distribution, for half of it, and clipped on its way (*Dive into Deep Learning*, 9.5.3);
- cells.png: ‖∂h_T/∂h_k‖ of an RNN with small and with large weights, an LSTM (also with its
  forget gate held open) and a GRU (Pascanu et al., 2013);
- cells_clipped.png: the norm of the gradient of Σh_T / √H on its way back through the same, with clipping and without;
- rnn.svg: the graph of the RNN with small weights, coloured by the norm of the gradient;
- bptt.png: full, truncated and randomly truncated back-propagation through time (*Dive into Deep Learning*, 9.7.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import tinygrad_nlp as tn
from examples import cli
from examples.cli import command
from examples.models.language_model import RecurrentLM
from tinygrad_nlp import nn, plot
from tinygrad_nlp.nn.functional import cross_entropy, linear
from tinygrad_nlp.training import loss_over_windows, output_folder, product_norms, random_factors, step_jacobians

CHAIN_STEPS, CHAIN_SEED = 20, 3  # the book's
OPEN = 4.0  # a bias with which σ is 0.98: a forget gate that keeps the cell


@dataclass
class Settings:
    """Follow gradients back through time."""

    steps: int = 50
    """T, of the cells"""
    hidden: int = 32
    """H, of the cells"""
    small: float = 0.5
    """the small weights of the RNN, W_hh, as a multiple of an orthogonal matrix"""
    large: float = 2.0
    """the large ones"""
    max_norm: float = 5.0
    """θ, at which gradients are clipped on their way back"""
    window: int = 7
    """steps between two cuts of truncated back-propagation"""
    keep: float = 0.5
    """probability with which a random cut lets the gradient through"""
    draws: int = 400
    """how many randomly truncated gradients are averaged"""
    seed: int = 0
    """of weights, inputs and cuts"""
    out: str = "runs/gradients"
    """folder for the pictures"""


@command
def main(settings: Settings) -> dict[str, list[float]]:
    """Print and draw.

    Returns:
        The norms of the chain, by name, from the last step back to the first.
    """
    if min(settings.steps, settings.hidden, settings.window, settings.draws) < 1 or settings.max_norm <= 0:
        raise ValueError("--steps, --hidden, --window and --draws must be at least 1, and --max-norm above 0")
    out = output_folder(settings.out)
    tn.manual_seed(settings.seed)
    norms = chain(settings.max_norm, out)
    cells(settings, out)
    strategies(settings, out)
    return norms


# --- C10: the book's chain --------------------------------------------------------------------------------------------


def chain(max_norm: float, out: Path) -> dict[str, list[float]]:
    """‖∂Σh_T/∂h_t‖ / N for t = T - 1 … 0, where h_{t+1} = h_t W, N = 2 and H = 3."""
    weight = np.random.RandomState(CHAIN_SEED).randn(3, 3)
    found = {
        "W from N(0, 1)": back_through(weight),
        "W from N(0, ¼)": back_through(weight * 0.5),
        f"W from N(0, 1), clipped at {max_norm:g}": back_through(weight, max_norm),
    }
    for name, norms in found.items():
        print(f"chain, {name}: {norms[0]:.2f} after one step back, {norms[-1]:.3g} after {CHAIN_STEPS}")
    curves = {name: (range(1, CHAIN_STEPS + 1), norms) for name, norms in found.items()}
    print(plot.save(plot.lines(curves, "steps back", "norm of the gradient", log_y=True), out / "chain.png"))
    return found


def back_through(weight: np.ndarray, max_norm: float = np.inf) -> list[float]:
    """The norms on the way back; a hook clips each gradient: where ‖g‖ > θ, g ← θ g / ‖g‖."""
    rows = 2
    norms: list[float] = []

    def clip(g: np.ndarray) -> np.ndarray:
        clipped = g * min(1.0, max_norm * rows / np.linalg.norm(g))
        norms.append(float(np.linalg.norm(clipped)) / rows)
        return clipped

    h: Any = tn.Variable(np.zeros((rows, len(weight))), requires_grad=True)
    for t in range(CHAIN_STEPS):
        h.register_hook(clip)
        with tn.scope(t):
            h = h @ weight
    h.sum().backward()
    return norms


# --- C10: cells -------------------------------------------------------------------------------------------------------


def cells(settings: Settings, out: Path) -> None:
    """‖∂h_T/∂h_k‖ = ‖∏ ∂h_t/∂h_{t-1}‖ along a sequence of noise, and the identity checked against autograd."""
    size = settings.hidden
    xs = np.random.default_rng(settings.seed).standard_normal((settings.steps, 1, size), np.float32)
    rnns = {scale: nn.RNNCell(size, size) for scale in (settings.small, settings.large)}
    for scale, cell in rnns.items():
        nn.init.orthogonal_(cell.weight_hh)
        cell.weight_hh.data *= scale
    remembers = nn.LSTMCell(size, size)
    dict(remembers.named_parameters())["bias_ih"].data[size : 2 * size] = OPEN  # the forget gate's
    h, c = np.zeros((2, 1, size), np.float32)
    models: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
        f"RNN, W = {settings.small:g} Q": (rnns[settings.small], h),
        f"RNN, W = {settings.large:g} Q": (rnns[settings.large], h),
        "LSTM": (nn.LSTMCell(size, size), (h, c)),
        "LSTM, forget gate open": (remembers, (h, c)),
        "GRU": (nn.GRUCell(size, size), h),
    }
    curves, unclipped, clipped = {}, {}, {}
    for name, (step, first) in models.items():
        jacobians = step_jacobians(step, first, xs)
        norms = product_norms(jacobians)
        back = range(1, settings.steps + 1)
        curves[name] = back, norms[::-1]
        unclipped[name], clipped[name] = (
            (back, carried_back(jacobians, size, theta)) for theta in (np.inf, settings.max_norm)
        )
        print(f"∥∂h_T/∂h_k∥, {name}: {norms[-1]:.2g} one step back, {norms[0]:.2g} after {settings.steps}")
        if first is h:
            print(f"  product of the steps' Jacobians and autograd's: {identity(step, h, xs, jacobians):.1e} apart")
    picture = plot.lines(curves, "steps back, $T - k$", r"$\|\partial h_T / \partial h_k\|$", log_y=True)
    print(plot.save(picture, out / "cells.png"))
    largest = {name: max(norms) for name, (_, norms) in clipped.items() if max(norms) > 0.999 * settings.max_norm}
    print(f"clipped at {settings.max_norm:g} on their way: {', '.join(largest) or 'none'}")
    both = {"without clipping": unclipped, f"clipped at {settings.max_norm:g}": clipped}
    picture = plot.panels(both, "steps back, $T - k$", "norm of the gradient", log_y=True)
    print(plot.save(picture, out / "cells_clipped.png"))

    small = rnns[settings.small]
    state: Any = tn.Variable(h, requires_grad=True, name="h_0")
    for t, x in enumerate(xs[:8]):
        with tn.scope(t):
            state = tn.tanh(linear(x, small.weight_ih) + linear(state, small.weight_hh))
    loss = (state * state).sum()
    loss.name = "loss"
    print(tn.draw(loss, time="all", gradient=True, show=(), rankdir="LR").save(out / "rnn.svg"))


def carried_back(jacobians: np.ndarray, hidden: int, max_norm: float) -> list[float]:
    """The norms of ∂L/∂s_k for k = T - 1 … 0, L = Σh_T / √H, of norm 1 at first; where ‖g‖ > θ, g ← θ g / ‖g‖."""
    g = np.zeros(jacobians.shape[1])
    g[:hidden] = hidden**-0.5  # h stands before c
    norms = []
    for step in jacobians[::-1]:
        g = g @ step
        g *= min(1.0, max_norm / float(np.linalg.norm(g)))
        norms.append(float(np.linalg.norm(g)))
    return norms


def identity(cell: Callable[[Any, Any], Any], h: np.ndarray, xs: np.ndarray, jacobians: np.ndarray) -> float:
    """∂h_T/∂h_0 = ∏ ∂h_t/∂h_{t-1} (Pascanu, Mikolov and Bengio, 2013, eq. 5): the largest difference, relatively."""

    def last(state: Any) -> Any:
        for x in xs:
            state = cell(x, state)
        return state.reshape(-1)

    whole = np.asarray(tn.jacobian(last, h)).reshape(h.size, h.size)
    product = np.eye(h.size)
    for step in jacobians:
        product = step @ product
    return float(abs(whole - product).max() / abs(product).max())


# --- C8: strategies of back-propagation through time ------------------------------------------------------------------


def strategies(settings: Settings, out: Path) -> None:
    """The gradient of a language model by full, truncated, and randomly truncated back-propagation."""
    window, count = settings.window, 3  # so many cuts
    steps = window * (count + 1)
    ids = np.random.default_rng(settings.seed).integers(20, size=(4, steps + 1))
    x, y = ids[:, :-1], ids[:, 1:]
    model = RecurrentLM("rnn", 20, 16, 16)
    nn.init.orthogonal_(model.rnn.weight_hh_l0)

    def gradient(factors: list[float]) -> np.ndarray:
        loss, _ = loss_over_windows(model, x, y, None, window, factors)
        return np.asarray(tn.grad(loss, model.rnn.weight_hh_l0)[0], np.float64)

    full = np.asarray(tn.grad(cross_entropy(model(x)[0], y), model.rnn.weight_hh_l0)[0], np.float64)

    def off(g: np.ndarray) -> float:
        return float(np.linalg.norm(g - full) / np.linalg.norm(full))

    drawn = [random_factors(count, settings.keep) for _ in range(settings.draws)]
    random = [gradient(factors) for factors in drawn]
    print(
        f"BPTT over {steps} steps, cut after every {window}: the gradient of W_hh is {off(gradient([0.0] * count)):.1%}"
    )
    print(f"  off the full one; cut at random, {np.mean([off(g) for g in random]):.1%} on average,")
    print(f"  and the mean of {settings.draws} of these {off(np.mean(random, axis=0)):.1%}: they are right on average")

    def pieces(factors: list[float]) -> list[int]:
        cuts = [window * (i + 1) for i, factor in enumerate(factors) if factor == 0]
        return np.diff([0, *cuts, steps]).tolist()

    mixed = next((factors for factors in drawn if len(set(factors)) > 1), drawn[0])
    rows = {"randomised": pieces(mixed), "truncated": pieces([0.0] * count), "full": [steps]}
    print(plot.save(plot.segments(rows), out / "bptt.png"))


if __name__ == "__main__":
    cli.write_utf8()
    main(tyro.cli(Settings, prog="python -m examples.gradients", description=__doc__))
