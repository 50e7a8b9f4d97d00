"""The classifier's loss function against the same in NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convnets
from convnets.layers import BatchNorm, Dense, Dropout

KEY = jax.random.key(1)
RNG = np.random.default_rng(0)
NORMALIZATION = convnets.Normalization((0.4,), (0.3,))


class Network(nn.Module):
    """A dense layer, and before it what behaves otherwise in training."""

    classes: int = 7
    norm: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = images.reshape(len(images), -1)
        if self.norm:
            x = BatchNorm(name="norm")(x, train=train)
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return Dense(self.classes, name="head")(x)


def make(model, size=6, **options):
    """The loss function, what it takes for the model, and a batch."""
    batch = {
        "image": RNG.integers(0, 256, (size, 3, 2, 1), np.uint8),
        "label": RNG.integers(0, model.classes, size).astype(np.int32),
    }
    variables = model.init(KEY, jnp.ones((1, 3, 2, 1)), train=False)
    loss_fn = convnets.classification_loss(model, normalization=NORMALIZATION, **options)
    return jax.jit(loss_fn), variables["params"], variables.get("batch_stats", {}), batch


def logits_in_numpy(params, images):
    x = (images.astype(np.float64) / 255 - NORMALIZATION.mean[0]) / NORMALIZATION.std[0]
    return x.reshape(len(x), -1) @ np.float64(params["head"]["kernel"])


def cross_entropy_in_numpy(logits, labels, smoothing=0.0):
    exponentials = np.exp(logits)
    log = np.log(exponentials / exponentials.sum(1, keepdims=True))
    targets = (1 - smoothing) * np.eye(logits.shape[1])[labels] + smoothing / logits.shape[1]
    return -(targets * log).sum(1)


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("name", ["cross_entropy", "squared_error"])
def test_loss_and_metrics(name, key):
    loss_fn, params, batch_stats, batch = make(Network(), loss=name)
    loss, (after, measured) = loss_fn(params, batch_stats, batch, key)
    logits, labels = logits_in_numpy(params, batch["image"]), batch["label"]
    if name == "cross_entropy":
        values = cross_entropy_in_numpy(logits, labels)
    else:
        values = 0.5 * ((logits - np.eye(7)[labels]) ** 2).sum(1)
    ranks = (logits > np.take_along_axis(logits, labels[:, None], 1)).sum(1)
    assert after == batch_stats == {}
    assert loss == pytest.approx(values.mean(), rel=1e-5)
    assert measured["loss"][0] == pytest.approx(values.sum(), rel=1e-5)
    assert int(measured["accuracy"][0]) == (ranks < 1).sum()
    assert int(measured["top5_accuracy"][0]) == (ranks < 5).sum()
    assert {int(count) for _, count in measured.values()} == {6}


def test_weights_are_of_the_loss_and_the_mask_is_of_everything():
    loss_fn, params, batch_stats, batch = make(Network())
    values = cross_entropy_in_numpy(logits_in_numpy(params, batch["image"]), batch["label"])
    weight = np.array([3, 1, 0, 2, 5, 0.5], np.float32)
    mask = np.array([True, False, True, True, False, True])
    for given, weights, counted in (
        ({"weight": weight}, weight, np.ones(6)),
        ({"mask": mask}, mask, mask),
        ({"weight": weight, "mask": mask}, weight * mask, mask),
    ):
        loss, (_, measured) = loss_fn(params, batch_stats, batch | given, None)
        assert loss == pytest.approx((weights * values).sum() / weights.sum(), rel=1e-5)
        assert measured["loss"][0] == pytest.approx((counted * values).sum(), rel=1e-5)
        assert {int(count) for _, count in measured.values()} == {counted.sum()}


def test_labels_are_smoothed_in_training_only():
    loss_fn, params, batch_stats, batch = make(Network(), label_smoothing=0.2)
    logits = logits_in_numpy(params, batch["image"])
    for key, smoothing in ((KEY, 0.2), (None, 0.0)):
        loss, (_, measured) = loss_fn(params, batch_stats, batch, key)
        values = cross_entropy_in_numpy(logits, batch["label"], smoothing)
        assert loss == pytest.approx(values.mean(), rel=1e-5)
        assert measured["loss"][0] == pytest.approx(values.sum(), rel=1e-5)


def test_without_a_key_nothing_is_random_and_nothing_is_learned():
    def noise(key, image):
        assert image.dtype == jnp.float32
        return image + jax.random.uniform(key)

    model = Network(norm=True, dropout=0.5)
    loss_fn, params, batch_stats, batch = make(model, augment=noise)
    loss, (after, _) = loss_fn(params, batch_stats, batch, None)
    running = jax.tree.map(lambda leaf: leaf.tolist(), after)
    assert running == {"norm": {"mean": [0] * 6, "var": [1] * 6}}
    logits = logits_in_numpy(params, batch["image"]) / (1 + 1e-5) ** 0.5
    values = cross_entropy_in_numpy(logits, batch["label"])
    assert loss == pytest.approx(values.mean(), rel=1e-5)


def test_with_a_key_images_are_augmented_units_dropped_and_statistics_follow():
    first, second = jax.random.split(KEY)

    def noise(key, image):
        return image + jax.random.uniform(key)

    for options, model in (
        ({"augment": noise}, Network()),
        ({}, Network(dropout=0.5)),
    ):
        loss_fn, *arguments = make(model, **options)
        losses = [float(loss_fn(*arguments, key)[0]) for key in (first, first, second, None)]
        assert losses[0] == losses[1]
        assert len({*losses}) == 3
    loss_fn, params, batch_stats, batch = make(Network(norm=True))
    _, (after, _) = loss_fn(params, batch_stats, batch, first)
    images = (batch["image"] / 255 - 0.4) / 0.3
    mean = 0.1 * images.reshape(6, -1).mean(0)
    np.testing.assert_allclose(after["norm"]["mean"], mean, rtol=1e-4, atol=1e-6)


def test_every_image_is_augmented_in_0_to_1_with_a_key_of_its_own():
    def draw(key, image):
        return jnp.where(image.max() <= 1, jax.random.uniform(key), jnp.nan) * jnp.ones_like(image)

    seen = []

    class Look(nn.Module):
        classes: int = 2

        @nn.compact
        def __call__(self, images, *, train: bool):
            if train:
                jax.debug.callback(seen.append, images)
            return Dense(2, name="head")(images.reshape(len(images), -1))

    loss_fn, params, batch_stats, batch = make(Look(), augment=draw)
    jax.block_until_ready(loss_fn(params, batch_stats, batch, KEY))
    jax.effects_barrier()
    shades = np.asarray(seen[0])[:, 0, 0, 0]
    assert len(set(shades.tolist())) == 6
    assert ((shades * 0.3 + 0.4 >= 0) & (shades * 0.3 + 0.4 <= 1)).all()


@pytest.mark.parametrize(("classes", "top5"), [(5, False), (6, True)])
def test_top5_is_told_for_more_than_five_classes(classes, top5):
    loss_fn, *arguments = make(Network(classes=classes))
    _, (_, measured) = loss_fn(*arguments, None)
    assert ("top5_accuracy" in measured) == top5


def test_floats_are_taken_as_they_are():
    loss_fn, params, batch_stats, batch = make(Network())
    floats = batch | {"image": (batch["image"] / 255).astype(np.float32)}
    of_bytes, of_floats = (loss_fn(params, batch_stats, b, None)[0] for b in (batch, floats))
    np.testing.assert_allclose(of_floats, of_bytes, rtol=1e-6)


def cut(key, image, partner):
    """A mix whose share is the first number that its key gives."""
    share = jax.random.uniform(key)
    return share * image + (1 - share) * partner, share


@pytest.mark.parametrize(
    ("name", "smoothing"), [("cross_entropy", 0.0), ("cross_entropy", 0.2), ("squared_error", 0.0)]
)
def test_images_and_targets_are_mixed_with_the_neighbors(name, smoothing):
    loss_fn, params, batch_stats, batch = make(
        Network(), mix=cut, loss=name, label_smoothing=smoothing
    )
    weight = np.array([3, 1, 0, 2, 5, 0.5], np.float32)
    mask = np.array([True, True, True, True, False, True])
    mix_key = jax.random.split(KEY, 3)[2]
    shares = [jax.random.uniform(jax.random.fold_in(mix_key, i)) for i in range(6)]
    share = np.float64(shares)[:, None]
    for given, usable in (({}, np.ones(6)), ({"weight": weight, "mask": mask}, weight * mask)):
        partner = np.arange(6) ^ 1
        partner = np.where(usable[partner] > 0, partner, np.arange(6))
        assert (partner == np.arange(6)).sum() == (2 if given else 0)
        images = np.float64(batch["image"])
        images = (
            share.reshape(-1, 1, 1, 1) * images + (1 - share.reshape(-1, 1, 1, 1)) * images[partner]
        )
        hot, logits = np.eye(7)[batch["label"]], logits_in_numpy(params, images)
        targets = share * hot + (1 - share) * hot[partner]
        targets = (1 - smoothing) * targets + smoothing / 7
        values = 0.5 * ((logits - targets) ** 2).sum(1)
        if name == "cross_entropy":
            log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
            values = -(targets * log).sum(1)
        loss, (_, measured) = loss_fn(params, batch_stats, batch | given, KEY)
        weights = usable / usable.sum()
        assert loss == pytest.approx((weights * values).sum(), rel=1e-4)
        counted = mask if given else np.ones(6, bool)
        assert measured["loss"][0] == pytest.approx(values[counted].sum(), rel=1e-4)
        right = logits.argmax(1) == batch["label"]
        assert int(measured["accuracy"][0]) == right[counted].sum()
    plain = convnets.classification_loss(Network(), normalization=NORMALIZATION, loss=name)
    expected = float(plain(params, batch_stats, batch, None)[0])
    assert loss_fn(params, batch_stats, batch, None)[0] == pytest.approx(expected, rel=1e-6)


def test_probabilities_of_all_views_are_averaged():
    loss_fn, params, batch_stats, batch = make(Network(), views=convnets.ops.image.flip_views)
    probabilities = 0
    for images in (batch["image"], batch["image"][:, :, ::-1]):
        exponentials = np.exp(logits_in_numpy(params, images))
        probabilities = probabilities + exponentials / exponentials.sum(1, keepdims=True) / 2
    values = -np.log(probabilities[np.arange(6), batch["label"]])
    loss, (_, measured) = loss_fn(params, batch_stats, batch, None)
    assert loss == pytest.approx(values.mean(), rel=1e-5)
    assert int(measured["accuracy"][0]) == (probabilities.argmax(1) == batch["label"]).sum()
    with pytest.raises(convnets.UserError, match="averaged as probabilities, which squared_error"):
        convnets.classification_loss(
            Network(), loss="squared_error", views=convnets.ops.image.flip_views
        )


def test_bad_options_are_refused():
    with pytest.raises(convnets.UserError, match="did you mean 'cross_entropy'"):
        convnets.classification_loss(Network(), loss="crossentropy")
    with pytest.raises(convnets.UserError, match="not for squared_error"):
        convnets.classification_loss(Network(), loss="squared_error", label_smoothing=0.1)
