"""Layers and the base class of models, with PyTorch's names and shapes."""

from . import functional, init
from .layers import CrossEntropyLoss, DotAttention, Dropout, Embedding, LayerNorm, Linear
from .module import Module, ModuleList, Parameter, Sequential
from .recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, LSTMState, RNNCell

__all__ = [
    "GRU", "LSTM", "RNN", "CrossEntropyLoss", "DotAttention", "Dropout", "Embedding", "GRUCell", "LSTMCell",
    "LSTMState", "LayerNorm", "Linear", "Module", "ModuleList", "Parameter", "RNNCell", "Sequential", "functional",
    "init",
]  # fmt: skip
