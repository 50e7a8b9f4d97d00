"""Stages computed twice give the same numbers, and keep less."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convnets.layers import BatchNorm, Conv, Dropout, relu, run_stage


class Stages(nn.Module):
    checkpoint: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        for number in (1, 2):

            def stage(_, x, number=number):
                x = relu(Conv(4, 3, name=f"conv{number}_1")(x))
                x = BatchNorm(name=f"bn{number}")(x, train=train)
                x = Dropout(0.5, name=f"dropout{number}")(x, train=train)
                return jnp.sin(Conv(4, 3, name=f"conv{number}_2")(x))

            x = run_stage(self, stage, x)
        return x


def made(checkpoint):
    """The variables, and the loss of the parameters."""
    model = Stages(checkpoint)
    x = jax.random.normal(jax.random.key(1), (2, 6, 6, 3))
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), x)

    def loss(params):
        y, updates = model.apply(
            {**variables, "params": params},
            x,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(2)},
        )
        return (y**2).sum(), updates

    return variables, loss


def test_parameters_gradients_and_statistics_are_the_same():
    def gradients(checkpoint):
        variables, loss = made(checkpoint)
        return variables, jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    kept, again = gradients(False), gradients(True)
    assert jax.tree.structure(kept) == jax.tree.structure(again)
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(again)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_only_what_lies_between_stages_is_kept():
    def kept(checkpoint):
        variables, loss = made(checkpoint)
        pull_back = jax.eval_shape(
            lambda params: jax.vjp(lambda params: loss(params)[0], params)[1], variables["params"]
        )
        return sum(leaf.size for leaf in jax.tree.leaves(pull_back))

    assert kept(True) < 0.5 * kept(False)
