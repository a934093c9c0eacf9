"""Layers and the base class of models, with PyTorch's names and shapes."""

from . import functional, init
from .layers import DotAttention, Dropout, Embedding, LayerNorm, Linear
from .losses import AdaptiveSoftmaxLoss, CrossEntropyLoss, LinearCrossEntropyLoss
from .module import Module, ModuleList, Parameter, Sequential
from .recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, LSTMState, RNNCell

__all__ = [
    "GRU", "LSTM", "RNN", "AdaptiveSoftmaxLoss", "CrossEntropyLoss", "DotAttention", "Dropout", "Embedding", "GRUCell",
    "LSTMCell", "LSTMState", "LayerNorm", "Linear", "LinearCrossEntropyLoss", "Module", "ModuleList", "Parameter",
    "RNNCell", "Sequential", "functional", "init",
]  # fmt: skip
