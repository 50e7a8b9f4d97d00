"""Convolutional networks for JAX: pure functions, one train step on one device or on many.

Everything public is reached from here and loaded when first used.
"""

import importlib

_HOMES = {
    "errors": ["NotFiniteError", "UserError"],
    "ops.image": ["Normalization", "prepare"],
    "losses": ["weighted_mean"],
    "models": [
        "create_backbone",
        "create_model",
        "feature_info",
        "fold_batch_norm",
        "list_models",
        "reset_head",
        "to_fully_convolutional",
    ],
    "data": [
        "batches",
        "dataset_from_arrays",
        "evaluation_batches",
        "load_dataset",
        "prefetch",
        "prepare_dataset",
        "resident_batches",
    ],
    "training": [
        "Checkpoints",
        "TrainState",
        "create_optimizer",
        "create_schedule",
        "evaluate",
        "gradient",
        "linear_scaling",
        "make_eval_step",
        "make_hill_climbing_step",
        "make_moments_step",
        "make_step",
        "minimize_lbfgs",
        "recompute_statistics",
        "reduce_on_plateau",
        "scale_rates",
        "sharpness_aware",
        "train",
        "update",
    ],
    "tasks": ["classification_loss"],
    "weights": ["load_pretrained"],
    "summary": ["format_summary", "summarize"],
    "sizing": ["model_sizes"],
    "committee": ["Member", "predict_committee"],
    "fitting": ["fit"],
    "prediction": ["predict"],
    "pretraining": ["pretrain"],
    "rates": ["find_learning_rate"],
    "recipe": ["PretrainingStage"],
    "semi_supervised": ["ReconstructingClassifier", "semi_supervised_loss"],
    "runs": ["evaluate_run", "load_run"],
}
_ROOMS = [
    "adversarial",
    "benchmark",
    "data",
    "doctor",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "parallel",
]
_ROOMS += ["tasks", "training", "units", "unsupervised", "visualize", "weights"]
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = sorted([*_HOME_OF, *_ROOMS])


def __getattr__(name):
    if name in _HOME_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return __all__
