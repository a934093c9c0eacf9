"""Learning-rate schedules beside PyTorch's, step by step."""

import math
import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("torch", reason="the oracle needs PyTorch: `make oracle` installs it")
    import torch
    from torch.optim import lr_scheduler

from tinygrad_nlp import optim
from tinygrad_nlp.nn import Parameter


def pair(name, *args, **kwargs):
    """A schedule of ours and the one of PyTorch, each with an optimizer of lr 0.8."""
    ours = optim.SGD([Parameter(np.zeros(1))], lr=0.8)
    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.8)
    mine = getattr(optim, name)(ours, *args, **kwargs)
    return mine, ours, getattr(lr_scheduler, name)(theirs, *args, **kwargs), theirs


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)}),
        ("StepLR", {"step_size": 3}),
        ("StepLR", {"step_size": 1, "gamma": 0.7}),
        ("LinearLR", {}),
        ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 8}),
        ("CosineAnnealingLR", {"T_max": 10}),
        ("CosineAnnealingLR", {"T_max": 4, "eta_min": 0.1}),
    ],
)
@pytest.mark.filterwarnings("ignore:Detected call of")  # no step of the optimizer is made between
def test_the_rate_is_pytorchs_at_every_step(name, settings):
    mine, ours, other, theirs = pair(name, **settings)
    for _ in range(12):
        assert math.isclose(ours.lr, theirs.param_groups[0]["lr"], rel_tol=1e-9, abs_tol=1e-12)
        mine.step()
        other.step()


@pytest.mark.parametrize(
    "settings", [{}, {"patience": 0, "factor": 0.25, "min_lr": 0.02}, {"mode": "max", "patience": 1, "factor": 0.5}]
)
def test_the_rate_on_a_plateau_is_pytorchs(settings):
    mine, ours, other, theirs = pair("ReduceLROnPlateau", **settings)
    for value in [*np.random.default_rng(0).normal(size=30).cumsum(), math.nan, 1.0, 1.00001, *[0.5] * 25]:
        mine.step(value)
        other.step(value)
        assert math.isclose(ours.lr, theirs.param_groups[0]["lr"], rel_tol=1e-9)


@pytest.mark.parametrize(
    ("name", "schedule", "settings"),
    [
        ("SGD", "StepLR", {"step_size": 2}),
        ("Adam", "LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 8}),
        ("AdamW", "CosineAnnealingLR", {"T_max": 10}),
    ],
)
def test_groups_are_trained_as_pytorchs(name, schedule, settings):
    arrays = [np.random.default_rng(seed).standard_normal(3) for seed in range(2)]
    ps, qs = [Parameter(a.copy()) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    ours, theirs = (
        getattr(module, name)([{"params": [first], "lr": 0.02}, {"params": [second]}], lr=0.1)
        for module, (first, second) in ((optim, ps), (torch.optim, qs))
    )
    mine, other = getattr(optim, schedule)(ours, **settings), getattr(lr_scheduler, schedule)(theirs, **settings)
    for step in range(8):
        for p, q in zip(ps, qs, strict=True):
            p.grad = np.cos(np.arange(3.0) + step)
            q.grad = torch.tensor(p.grad)
        for each in (ours, theirs, mine, other):
            each.step()
        for p, q in zip(ps, qs, strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-9)
        rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in (ours, theirs)]
        np.testing.assert_allclose(*rates, rtol=1e-9, atol=1e-12)
