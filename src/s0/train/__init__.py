"""Training: examples to batches, one loop for every method, and the trainers on top."""

from s0.train.baseline_trainer import BaselineTrainer
from s0.train.baselines import BaselineSettings, LoraTuning, PrefixTuning, rank_matching
from s0.train.checkpoint import Checkpoint
from s0.train.data import Batch, Splits, TrainingData, TrainingSet, TrainingSets, batches, prepare, tokenize
from s0.train.evaluator import mean_loss
from s0.train.fitting import FitResult, fit
from s0.train.full import FullTuning
from s0.train.full_trainer import FullTrainer
from s0.train.gains import GainsTuning
from s0.train.ia3 import Ia3Tuning
from s0.train.methods import METHODS, make_trainer, method_of
from s0.train.scale import ScaleChoice, choose_scale, scale_curve, scales_as_rows
from s0.train.search import Grid
from s0.train.settings import FitSettings, S0Config, TuningSettings
from s0.train.trainer import S0Trainer
from s0.train.tuned import load_tuned, read_tuned, trainer_of

__all__ = [
    "METHODS",
    "BaselineSettings",
    "BaselineTrainer",
    "Batch",
    "Checkpoint",
    "FitResult",
    "FitSettings",
    "FullTrainer",
    "FullTuning",
    "GainsTuning",
    "Grid",
    "Ia3Tuning",
    "LoraTuning",
    "PrefixTuning",
    "S0Config",
    "S0Trainer",
    "ScaleChoice",
    "Splits",
    "TrainingData",
    "TrainingSet",
    "TrainingSets",
    "TuningSettings",
    "batches",
    "choose_scale",
    "fit",
    "load_tuned",
    "make_trainer",
    "mean_loss",
    "method_of",
    "prepare",
    "rank_matching",
    "read_tuned",
    "scale_curve",
    "scales_as_rows",
    "tokenize",
    "trainer_of",
]
