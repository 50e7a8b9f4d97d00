"""Gradient checkpointing: stages whose inner activations are computed twice and kept never."""

from collections.abc import Callable

import flax.linen as nn


def run_stage(module: nn.Module, function: Callable, x):
    """`function(x)`, a part of `module`; where `module.checkpoint` is true, the backward pass
    computes it again from `x`, so that of all it computes only `x` and the result are kept.

    Args:
      module: the one that is being called; `function` makes its submodules by name.
      function: of one array, `x -> result`, an array or a tree of them.

    Reference: Chen, Xu, Zhang, Guestrin 2016, "Training deep nets with sublinear memory cost".
    """
    if not module.checkpoint:
        return function(x)
    return nn.remat(lambda _, x: function(x))(module, x)
