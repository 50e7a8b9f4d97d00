"""Single units and how they learned: thresholds, perceptron, Adaline, Madaline, linear classifiers.

`backpropagation` keeps its names to itself: its losses are modules, each with a derivative by hand,
and bear the names of the functions in `convnets.losses`.
"""

from . import backpropagation
from .adaline import train_adaline
from .linear_classifiers import linear_objective, train_linear_svm, train_logistic_regression
from .madaline import disturb_least, initialize_madaline, run_madaline, train_madaline
from .perceptron_rule import mistake_bound, train_perceptron
from .threshold import (
    all_of,
    any_of,
    association_units,
    disjunctive_layers,
    run_threshold_layers,
    threshold_units,
    truth_rows,
)

__all__ = [
    "all_of",
    "any_of",
    "association_units",
    "backpropagation",
    "disjunctive_layers",
    "disturb_least",
    "initialize_madaline",
    "linear_objective",
    "mistake_bound",
    "run_madaline",
    "run_threshold_layers",
    "threshold_units",
    "train_adaline",
    "train_linear_svm",
    "train_logistic_regression",
    "train_madaline",
    "train_perceptron",
    "truth_rows",
]
