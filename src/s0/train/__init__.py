"""Training: examples to batches, one loop for every method, and `S0Trainer` on top."""

from s0.train.batches import Batch, TrainingData, TrainingSet, batches, prepare, tokenize
from s0.train.fit import FitResult, FitSettings, fit, mean_loss
from s0.train.trainer import S0Config, S0Trainer

__all__ = [
    "Batch",
    "FitResult",
    "FitSettings",
    "S0Config",
    "S0Trainer",
    "TrainingData",
    "TrainingSet",
    "batches",
    "fit",
    "mean_loss",
    "prepare",
    "tokenize",
]
