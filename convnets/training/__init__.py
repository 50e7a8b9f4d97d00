"""State, step, loop, evaluation, optimizers, schedules, and what a run leaves on disk."""

from .checkpoints import Checkpoints
from .evaluation import evaluate
from .loop import train
from .optimizers import create_optimizer
from .schedules import create_schedule, linear_scaling, reduce_on_plateau
from .state import TrainState
from .step import gradient, make_eval_step, make_step, update

__all__ = [
    "Checkpoints",
    "TrainState",
    "create_optimizer",
    "create_schedule",
    "evaluate",
    "gradient",
    "linear_scaling",
    "make_eval_step",
    "make_step",
    "reduce_on_plateau",
    "train",
    "update",
]
