"""Optimizers and gradient clipping, with PyTorch's names and defaults."""

from .clip import clip_grad_norm_
from .optimizer import SGD, Adam, AdamW, Momentum, Optimizer

__all__ = ["SGD", "Adam", "AdamW", "Momentum", "Optimizer", "clip_grad_norm_"]
