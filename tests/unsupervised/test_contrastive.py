"""Contrastive divergence against the exact gradient of the likelihood, and what training gains."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets.errors import UserError
from convnets.unsupervised import RBM, ConvolutionalRBM, contrastive_divergence_loss

KEY = jax.random.key(0)


def bars(count):
    """Images 3x3 of whole rows, or whole columns: what a machine of few units can learn."""
    rng = np.random.default_rng(0)
    on = rng.random((count, 3)) < 0.4
    rows = np.repeat(on[:, :, None], 3, 2)
    images = np.where(rng.random((count, 1, 1)) < 0.5, rows, rows.transpose(0, 2, 1))
    return jnp.asarray(images[..., None], jnp.float32)


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def test_its_gradient_is_that_of_the_likelihood_nearly():
    model, images = RBM(5), bars(2000)
    params = model.init(KEY, images, train=False)["params"]
    params = jax.tree.map(
        lambda x: jnp.asarray(np.random.default_rng(1).normal(size=x.shape), x.dtype), params
    )
    exact = flat(jax.grad(lambda p: -model.log_likelihood(p, images).mean())(params))
    correlations = []
    for steps in (1, 20):
        loss_fn = contrastive_divergence_loss(model, steps=steps)
        grads, _ = jax.grad(loss_fn, has_aux=True)(params, {}, {"image": images}, KEY)
        found = flat(grads)
        correlations.append(np.corrcoef(found, exact)[0, 1])
    assert correlations[0] > 0.8
    assert correlations[1] > 0.98
    assert correlations[1] > correlations[0]


@pytest.mark.parametrize("persistent", [False, True])
def test_the_exact_likelihood_rises(persistent):
    model = RBM(8, chains=100 if persistent else 0)
    images, optimizer = bars(500), optax.sgd(0.1)
    variables = model.init(KEY, images, train=False)
    state = convnets.TrainState.create(variables, optimizer, jax.random.key(1))
    step = jax.jit(convnets.make_step(contrastive_divergence_loss(model), optimizer))
    before = model.log_likelihood(state.params, images).mean()
    chains = state.batch_stats.get("chains")
    for _ in range(400):
        state, _ = step(state, {"image": images})
    after = model.log_likelihood(state.params, images).mean()
    independent = images.reshape(500, -1).mean(0)
    entropy = -(
        independent * jnp.log(independent) + (1 - independent) * jnp.log(1 - independent)
    ).sum()
    assert after > before + 0.5
    assert after > -entropy  # better than pixels that know nothing of each other
    if persistent:
        assert state.batch_stats["chains"].shape == chains.shape == (100, 3, 3, 1)
        assert (state.batch_stats["chains"] != chains).any()


def learn(model, params, images, steps, rate):
    optimizer = optax.sgd(rate)
    state = convnets.TrainState.create({"params": params}, optimizer, jax.random.key(1))
    step = jax.jit(convnets.make_step(contrastive_divergence_loss(model), optimizer))
    for _ in range(steps):
        state, _ = step(state, {"image": images})
    return state.params


def test_a_second_machine_on_the_first_makes_the_images_likelier():
    """A deep belief network of the two. It begins as the first machine alone, where the second has
    its weights, turned over; all states of the hidden units between them are summed over."""
    images, lower, upper = bars(500), RBM(6), RBM(9)
    first = learn(lower, lower.init(KEY, images, train=False)["params"], images, 1000, 1.0)
    states = np.array(list(itertools.product([0, 1], repeat=6)), np.float32)
    seen = images.reshape(500, 9)
    means = lower.expect_visible(first, jnp.asarray(states))
    given = (
        seen @ jnp.log(means).T + (1 - seen) @ jnp.log1p(-means).T
    )  # of each state: log p(v | h)

    def log_likelihood(second):
        prior = upper.log_likelihood(second, jnp.asarray(states).reshape(64, 1, 1, 6))
        return jax.nn.logsumexp(given + prior[None], axis=1).mean()

    turned = {
        "kernel": first["kernel"].T,
        "visible_bias": first["hidden_bias"],
        "hidden_bias": first["visible_bias"],
    }
    alone = lower.log_likelihood(first, images).mean()
    np.testing.assert_allclose(log_likelihood(turned), alone, rtol=1e-4)
    codes = jax.vmap(lambda key, image: lower.sample_hidden(key, first, image))(
        jax.random.split(jax.random.key(2), 500), images
    )
    second = learn(upper, turned, codes.reshape(500, 1, 1, 6), 600, 0.3)
    assert log_likelihood(second) > alone + 0.1


@pytest.mark.parametrize("chains", [0, 6])
def test_the_same_numbers_on_many_devices(chains):
    model, images, optimizer = RBM(4, chains=chains), bars(16), optax.sgd(0.1)
    begin = model.init(KEY, images, train=False)
    ends = []
    for strategy, devices in (("jit", 1), ("jit", 4), ("shard_map", 4)):
        step = convnets.make_step(contrastive_divergence_loss(model), optimizer)
        step = convnets.parallel.compile(step, strategy, devices=devices)
        state = convnets.TrainState.create(begin, optimizer, jax.random.key(1))
        for _ in range(3):
            state, _ = step(state, {"image": images})
        state = convnets.parallel.gather(state)
        ends.append(flat([state.params, state.batch_stats]))
    for end in ends[1:]:
        np.testing.assert_allclose(end, ends[0], rtol=1e-5, atol=1e-6)


def test_the_exact_likelihood_of_a_convolutional_machine_rises():
    model, images, optimizer = ConvolutionalRBM(6, 2, 2), bars(500), optax.sgd(0.5)
    every = np.array(list(itertools.product([0, 1], repeat=9)), np.float32).reshape(-1, 3, 3, 1)
    state = convnets.TrainState.create(model.init(KEY, images, train=False), optimizer, KEY)
    step = jax.jit(convnets.make_step(contrastive_divergence_loss(model), optimizer))

    def log_likelihood(params):
        partition = jax.nn.logsumexp(-model.free_energy(params, jnp.asarray(every)))
        return -model.free_energy(params, images).mean() - partition

    before = log_likelihood(state.params)
    for _ in range(400):
        state, _ = step(state, {"image": images})
    assert log_likelihood(state.params) > before + 0.5


def test_binary_units_are_of_images_between_0_and_1():
    """What the normalization makes of these decides, whatever its numbers are."""
    for mean, std in ((0.1, 1.0), (0.0, 0.9), (0.5, 0.25)):
        normalization = convnets.Normalization((0.0, mean), (1.0, std))
        for machine in (RBM(3), ConvolutionalRBM(3, 2)):
            with pytest.raises(UserError, match="a binary machine takes images for probabilities"):
                contrastive_divergence_loss(machine, normalization=normalization)
        contrastive_divergence_loss(RBM(3, "gaussian"), normalization=normalization)
    for mean, std in ((0.0, 1.0), (0.0, 2.0), (-0.5, 2.0), (1.0, -1.0)):
        contrastive_divergence_loss(RBM(3), normalization=convnets.Normalization((mean,), (std,)))


def test_no_step_is_refused():
    with pytest.raises(UserError, match="at least 1 step"):
        contrastive_divergence_loss(RBM(3), steps=0)
