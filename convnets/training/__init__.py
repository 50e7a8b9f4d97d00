"""State, step, loop, evaluation, optimizers, schedules, and what a run leaves on disk.

What is public is loaded when first used: the command line reads `options` and `journal`, which need
no JAX.
"""

import importlib

_HOMES = {
    "checkpoints": ["Checkpoints"],
    "clipping": ["create_clipping"],
    "evaluation": ["evaluate"],
    "hill_climbing": ["make_hill_climbing_step"],
    "loop": ["train"],
    "optimizers": ["create_optimizer"],
    "orthogonalization": ["orthogonalize_momentum"],
    "quasi_newton": ["minimize_lbfgs"],
    "schedules": ["create_schedule", "linear_scaling", "reduce_on_plateau"],
    "selection": ["scale_rates"],
    "sharpness": ["sharpness_aware"],
    "state": ["TrainState"],
    "statistics": ["make_moments_step", "recompute_statistics"],
    "step": ["gradient", "make_eval_step", "make_step", "update"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name):
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
