"""Optimizers, gradient clipping and learning-rate schedules, with PyTorch's names and defaults."""

from .clip import clip_grad_norm_
from .lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler, ReduceLROnPlateau, StepLR, Warmup
from .optimizer import SGD, Adam, AdamW, Momentum, Optimizer

__all__ = [
    "SGD", "Adam", "AdamW", "CosineAnnealingLR", "LRScheduler", "LambdaLR", "LinearLR", "Momentum", "Optimizer",
    "ReduceLROnPlateau", "StepLR", "Warmup", "clip_grad_norm_",
]  # fmt: skip
