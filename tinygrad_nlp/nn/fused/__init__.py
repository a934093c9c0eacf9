"""Fused functions: kernels that are fast, each beside the plain definition that it equals."""

from .attention import Attention
from .cross_entropy import CrossEntropy
from .lstm import LSTM

__all__ = ["LSTM", "Attention", "CrossEntropy"]
