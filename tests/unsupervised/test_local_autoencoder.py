"""The local auto-encoder: its size, its objective, its gradients on one device and on many."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets import ops, parallel
from convnets.unsupervised import LocalAutoencoder, LocalStage, local_reconstruction_loss

STAGE = partial(LocalStage, filter_size=4, pool=3, contrast=3)
NETWORK = LocalAutoencoder((partial(STAGE, pool_stride=2), partial(STAGE, padding=1)))
RULES = [("stage?/*", (*(None,) * 5, "model"))]
LAMBDA, EPSILON = 0.1, 1e-6


def images(count, side=12, channels=3):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, side, side, channels), np.uint8)


def params_of(network, side=12, channels=3):
    images = jnp.zeros((1, side, side, channels))
    return network.init(jax.random.key(0), images, train=False)["params"]


def test_there_are_more_than_a_billion_parameters():
    shape = jax.ShapeDtypeStruct((1, 200, 200, 3), jnp.float32)
    init = partial(LocalAutoencoder().init_with_output, train=False)
    stages, variables = jax.eval_shape(init, jax.random.key(0), shape)
    sizes = {
        name: sum(leaf.size for leaf in jax.tree.leaves(stage))
        for name, stage in variables["params"].items()
    }
    expected = {  # both matrices: places, pixels and channels of a filter, filters
        "stage1": 2 * 183**2 * 18**2 * 3 * 8,
        "stage2": 2 * 83**2 * 18**2 * 8 * 8,
        "stage3": 2 * 74**2 * 18**2 * 8 * 8,
    }
    assert sizes == expected
    assert sum(sizes.values()) > 1.0e9
    assert [stage.output.shape for stage in stages] == [
        (1, 92, 92, 8),
        (1, 83, 83, 8),
        (1, 74, 74, 8),
    ]


def test_the_objective_is_equation_1():
    """By loops over places and pools, in float64."""
    network = LocalAutoencoder((STAGE,))
    params = params_of(network, 7, 2)
    batch = {"image": images(2, 7, 2)}
    found, (_, measured) = local_reconstruction_loss(network)(params, {}, batch, None)
    encoder = np.float64(params["stage1"]["encoder"]["kernel"])
    decoder = np.float64(params["stage1"]["decoder"])
    losses, errors, spreads = [], [], []
    for x in batch["image"] / 255:
        code, back = np.zeros((4, 4, 8)), np.zeros_like(x)
        for i, j in np.ndindex(4, 4):
            window = np.s_[i : i + 4, j : j + 4]
            code[i, j] = np.einsum("hwc,hwcf->f", x[window], encoder[i, j])
            back[window] += decoder[i, j] @ code[i, j]
        padded = np.pad(code**2, ((1, 1), (1, 1), (0, 0)))
        pooled = [
            np.sqrt(EPSILON + padded[i : i + 3, j : j + 3].sum((0, 1))) for i, j in np.ndindex(4, 4)
        ]
        error = np.sum((back - x) ** 2)
        losses.append((error + LAMBDA * np.sum(pooled)) / x.size)
        errors.append(error)
        spreads.append(np.sum((x - x.mean()) ** 2))
    share = np.sum(errors) / np.sum(spreads)
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-5)
    assert convnets.metrics.finish(measured) == pytest.approx(
        {"loss": np.mean(losses), "unexplained": share, "unexplained1": share}, rel=1e-5
    )


def test_stages_follow_one_another():
    x = jax.random.normal(jax.random.key(1), (2, 12, 12, 3))
    first, second = NETWORK.apply({"params": params_of(NETWORK)}, x, train=False)
    assert (first.input == x).all()
    assert (second.input == first.output).all()
    np.testing.assert_allclose(
        first.output,
        ops.local_contrast_normalization(first.pooled, window=3, sigma=0.6, floor=0.01),
        rtol=1e-6,
    )
    assert second.reconstruction.shape == first.output.shape == (2, 5, 5, 8)


def test_an_image_without_contrast_has_a_gradient_and_padding_does_not_count():
    params, loss_fn = params_of(NETWORK), local_reconstruction_loss(NETWORK)
    batch = {"image": np.concatenate([images(2), np.zeros((1, 12, 12, 3), np.uint8)])}

    @jax.jit
    def differentiate(batch):
        return jax.value_and_grad(loss_fn, has_aux=True)(params, {}, batch, None)

    (_, _), grads = differentiate(batch)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    masked = {"image": batch["image"], "mask": np.array([True, True, False])}
    (value, (_, measured)), grads = differentiate(masked)
    (expected, (_, alone)), wanted = differentiate({"image": batch["image"][:2]})
    assert float(value) == pytest.approx(float(expected), rel=1e-6)
    assert measured["loss"][1] == alone["loss"][1] == 2
    assert convnets.metrics.finish(measured) == pytest.approx(convnets.metrics.finish(alone))
    shares = (np.array(measured[f"unexplained{number}"]) for number in (1, 2))
    np.testing.assert_allclose(measured["unexplained"], sum(shares), rtol=1e-6)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(wanted)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def run(mesh, rules):
    """Gradients, three updates and what was measured on the way."""
    loss_fn, optimizer = local_reconstruction_loss(NETWORK), optax.sgd(0.3)
    step = convnets.make_step(loss_fn, optimizer)

    def with_gradients(state, batch):
        grads, _, _ = convnets.gradient(loss_fn)(state, batch)
        return *step(state, batch), grads

    compiled = parallel.compile(with_gradients, mesh=mesh, rules=rules)
    key = jax.random.key(1)
    state = convnets.TrainState.create({"params": params_of(NETWORK)}, optimizer, key)
    found = []
    for _ in range(3):
        state, measured, grads = compiled(state, {"image": images(8)})
        found.append((convnets.metrics.finish(measured), parallel.gather(grads)))
    return parallel.gather(state.params), found, state


@pytest.fixture(scope="module")
def alone():
    return run(parallel.create_mesh(1), ())


@pytest.mark.parametrize("model", [1, 2, 4, 8])
def test_meshes_of_data_and_model_give_the_numbers_of_one_device(alone, model):
    params, found, state = run(parallel.create_mesh(8, model=model), RULES)
    leaves = zip(jax.tree.leaves((params, found)), jax.tree.leaves(alone[:2]), strict=True)
    for a, b in leaves:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1, np.abs(b).max()))
    held = set(parallel.bytes_per_device(state.params).values())
    assert held == {sum(leaf.nbytes for leaf in jax.tree.leaves(params)) // model}


def test_what_stays_unexplained_falls(alone):
    _, found, _ = alone
    shares = [measured["unexplained"] for measured, _ in found]
    assert shares[0] > shares[1] > shares[2]


def test_shard_map_takes_the_step_of_one_device():
    step = convnets.make_step(local_reconstruction_loss(NETWORK), optax.sgd(0.3))
    found = []
    for strategy, devices in (("jit", 1), ("shard_map", 4)):
        compiled = parallel.compile(step, strategy, devices=devices)
        key = jax.random.key(1)
        params = {"params": params_of(NETWORK)}
        state = convnets.TrainState.create(params, optax.sgd(0.3), key)
        found.append(parallel.gather(compiled(state, {"image": images(8)})[0].params))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), *found)
