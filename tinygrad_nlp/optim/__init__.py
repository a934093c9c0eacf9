"""Optimizers, gradient clipping and learning-rate schedules, with PyTorch's names and defaults where it has them.

But SGD has no default rate, and `Momentum` is a rule of its own, not an argument of SGD.
"""

from .clip import clip_grad_norm_
from .lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler, ReduceLROnPlateau, StepLR, Warmup
from .optimizer import SGD, Adam, AdamW, Momentum, Optimizer

__all__ = [
    "SGD", "Adam", "AdamW", "CosineAnnealingLR", "LRScheduler", "LambdaLR", "LinearLR", "Momentum", "Optimizer",
    "ReduceLROnPlateau", "StepLR", "Warmup", "clip_grad_norm_",
]  # fmt: skip
