"""The training loop: Trainer, callbacks, checkpoints, back-propagation through time."""

from .bptt import BPTT, loss_over_windows, perplexity, random_factors
from .callbacks import Callback, Evaluation, KeepBest, ProgressBar, SaveCheckpoint, Schedule
from .checkpoint import Checkpoint, load_weights, output_folder, save_weights
from .gradients import product_norms, step_jacobians
from .trainer import Trainer

__all__ = [
    "BPTT", "Callback", "Checkpoint", "Evaluation", "KeepBest", "ProgressBar", "SaveCheckpoint", "Schedule", "Trainer",
    "load_weights", "loss_over_windows", "output_folder", "perplexity", "product_norms", "random_factors",
    "save_weights", "step_jacobians",
]  # fmt: skip
