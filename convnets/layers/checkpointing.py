"""Gradient checkpointing: stages whose inner activations are computed twice and kept never."""

from collections.abc import Callable

import flax.linen as nn


def run_stage(module: nn.Module, stage: Callable, x, /, **options):
    """`stage(module, x, **options)`, a part of `module`; where `module.checkpoint` is true, the
    backward pass computes it again from `x`, so that of all it computes only `x` and the result are
    kept.

    Args:
      module: the one that is being called.
      stage: a method of its class, or any function of a module and an array that makes the
        submodules by name and returns an array or a tree of them. It uses no other module.
      options: of `stage`, not traced.

    Reference: Chen, Xu, Zhang, Guestrin 2016, "Training deep nets with sublinear memory cost".
    """
    if not module.checkpoint:
        return stage(module, x, **options)
    return nn.remat(lambda module, x: stage(module, x, **options))(module, x)
