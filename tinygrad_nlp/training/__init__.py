"""The training loop: Trainer, callbacks, checkpoints."""

from .callbacks import Callback, Evaluation, KeepBest, ProgressBar, SaveCheckpoint, Schedule
from .checkpoint import Checkpoint, load_weights, output_folder, save_weights
from .trainer import Trainer

__all__ = [
    "Callback", "Checkpoint", "Evaluation", "KeepBest", "ProgressBar", "SaveCheckpoint", "Schedule", "Trainer",
    "load_weights", "output_folder", "save_weights",
]  # fmt: skip
