"""Stages computed twice give the same numbers, and keep less."""

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


def gradients(checkpoint):
    model = Stages(checkpoint)
    x = jax.random.normal(jax.random.key(1), (2, 6, 6, 3))
    variables = model.init(jax.random.key(0), x, train=False)

    def loss(params):
        y, updates = model.apply(
            {**variables, "params": params},
            x,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(2)},
        )
        return (y**2).sum(), updates

    return variables, *jax.grad(loss, has_aux=True)(variables["params"]), loss


def test_parameters_gradients_and_statistics_are_the_same():
    kept, again = gradients(False), gradients(True)
    assert jax.tree.structure(kept[:3]) == jax.tree.structure(again[:3])
    for a, b in zip(jax.tree.leaves(kept[:3]), jax.tree.leaves(again[:3])):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_only_what_lies_between_stages_is_kept():
    def kept(checkpoint):
        variables, _, _, loss = gradients(checkpoint)
        _, pull_back = jax.vjp(lambda params: loss(params)[0], variables["params"])
        return sum(leaf.size for leaf in jax.tree.leaves(pull_back))

    assert kept(True) < 0.5 * kept(False)
