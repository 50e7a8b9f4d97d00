"""Deconvolutional networks: the way down by loops, the inference, and what training gains."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets.errors import UserError
from convnets.unsupervised import DeconvolutionalNetwork, deconvolution_loss

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.normal(size=(3, 8, 8, 1)), jnp.float32)
MODEL = DeconvolutionalNetwork((4, 5), kernel_size=3, penalty=0.2, inference=200)
PARAMS = MODEL.init(KEY, IMAGES, train=False)["params"]


def unit(kernel):
    kernel = np.asarray(kernel, np.float64)
    return kernel / np.sqrt((kernel**2).sum((0, 1, 2), keepdims=True))


def place(maps, kernel):
    """Every value of a map puts its filter around its place: `[H, W, K]` to `[H, W, C]`."""
    height, width, _ = maps.shape
    made = np.zeros((height + 2, width + 2, kernel.shape[2]))
    for i, j in np.ndindex(height, width):
        made[i : i + 3, j : j + 3] += kernel @ maps[i, j]
    return made[1:-1, 1:-1]


def test_the_way_down_by_loops():
    maps, switches = MODEL.infer(PARAMS, IMAGES, 2)
    found = MODEL.reconstruct(PARAMS, maps, switches)
    (places, size), *_ = switches
    assert size == (8, 8)
    kernels = [unit(PARAMS[name]["kernel"]) for name in ("layer1", "layer2")]
    for number in range(3):
        pooled = place(np.asarray(maps[number]), kernels[1])
        below = np.zeros((64, 4))
        for feature in range(4):
            spots = np.asarray(places[number, :, :, feature]).ravel()
            below[spots, feature] = pooled[:, :, feature].ravel()
        expected = place(below.reshape(8, 8, 4), kernels[0])
        np.testing.assert_allclose(found[number], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("layer", [1, 2])
def test_inferred_maps_are_the_best(layer):
    maps, switches = MODEL.infer(PARAMS, IMAGES, layer)

    def cost(maps):
        made = MODEL.reconstruct(PARAMS, maps, switches)
        return 0.5 * jnp.square(made - IMAGES).sum() + 0.2 * jnp.abs(maps).sum()

    assert (maps == 0).mean() > 0.2
    assert cost(maps) < 0.8 * cost(jnp.zeros_like(maps))
    # At the minimum the gradient of the error is -penalty * sign, and within ± penalty at zeros.
    gradient = jax.grad(
        lambda z: 0.5 * jnp.square(MODEL.reconstruct(PARAMS, z, switches) - IMAGES).sum()
    )(maps)
    moved = np.asarray(maps != 0)
    np.testing.assert_allclose(
        np.asarray(gradient)[moved], -0.2 * np.sign(np.asarray(maps)[moved]), atol=0.02
    )
    assert np.abs(np.asarray(gradient)[~moved]).max() < 0.22


def test_maps_of_an_image_do_not_depend_on_the_others():
    """Far from the best yet, so that the size of the steps is seen."""
    infer = jax.jit(lambda images: MODEL.clone(inference=3).infer(PARAMS, images, 2)[0])
    together = infer(IMAGES)
    for other in (5 * IMAGES[::-1], jnp.roll(IMAGES, 3, 1)):
        mixed = infer(jnp.concatenate([IMAGES[:1], other[1:]]))
        np.testing.assert_allclose(mixed[0], together[0], rtol=1e-4, atol=1e-5)


def test_the_same_numbers_on_many_devices():
    model, optimizer = MODEL.clone(inference=5), optax.sgd(0.1)
    images = jnp.asarray(RNG.normal(size=(8, 8, 8, 1)), jnp.float32)
    ends = []
    for strategy, devices in (("jit", 1), ("jit", 4), ("shard_map", 4)):
        step = convnets.make_step(deconvolution_loss(model, 2), optimizer)
        step = convnets.parallel.compile(step, strategy, devices=devices)
        state = convnets.TrainState.create({"params": PARAMS}, optimizer, KEY)
        for _ in range(2):
            state, _ = step(state, {"image": images})
        ends.append(np.ravel(convnets.parallel.gather(state).params["layer2"]["kernel"]))
    for end in ends[1:]:
        np.testing.assert_allclose(end, ends[0], rtol=1e-4, atol=1e-5)


def test_training_explains_more_and_moves_its_own_layer_only():
    shapes = RNG.normal(size=(3, 3, 3, 1))
    images = np.zeros((32, 8, 8, 1))
    for number in range(32):
        for _ in range(3):
            i, j = RNG.integers(0, 6, 2)
            images[number, i : i + 3, j : j + 3] += shapes[RNG.integers(3)]
    model = DeconvolutionalNetwork((3, 4), kernel_size=3, penalty=0.3, inference=30)
    optimizer = optax.adam(0.02)
    batch = {"image": jnp.asarray(images, jnp.float32)}
    for layer, name, other in ((1, "layer1", "layer2"), (2, "layer2", "layer1")):
        begin = model.init(KEY, batch["image"], train=False)
        state = convnets.TrainState.create(begin, optimizer, KEY)
        loss_fn = deconvolution_loss(model, layer)
        step = jax.jit(convnets.make_step(loss_fn, optimizer))
        before, _ = loss_fn(state.params, {}, batch, None)
        for _ in range(60):
            state, _ = step(state, batch)
        after, _ = loss_fn(state.params, {}, batch, None)
        assert after < 0.8 * before
        np.testing.assert_array_equal(
            state.params[other]["kernel"], begin["params"][other]["kernel"]
        )
        assert (state.params[name]["kernel"] != begin["params"][name]["kernel"]).any()


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="layers 1 to 2, not 3"):
        deconvolution_loss(MODEL, 3)
    with pytest.raises(UserError, match="odd size, not 4"):
        DeconvolutionalNetwork((4,), kernel_size=4).init(KEY, IMAGES, train=False)
    with pytest.raises(UserError, match="7x8 do not divide"):
        MODEL.init(KEY, IMAGES[:, :7], train=False)
