"""Layers and the base class of models, with PyTorch's names and shapes."""

from . import functional, init
from .layers import LSTM, CrossEntropyLoss, DotAttention, Dropout, Embedding, Linear
from .module import Module, ModuleList, Parameter, Sequential

__all__ = [
    "LSTM", "CrossEntropyLoss", "DotAttention", "Dropout", "Embedding", "Linear", "Module", "ModuleList", "Parameter",
    "Sequential", "functional", "init",
]  # fmt: skip
