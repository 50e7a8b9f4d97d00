"""A committee says the mean of what its members say, each of its own view of the images."""

import jax
import numpy as np
import optax
import pytest

import convnets
from convnets import Member, UserError, predict_committee


def member(seed, shape, num_classes=3, preprocess=None):
    model = convnets.create_model("linear", num_classes=num_classes)
    variables = model.init(jax.random.key(seed), np.zeros((1, *shape), np.float32), train=False)
    normalization = convnets.Normalization(np.float32([0.1 * seed]), np.float32([0.5]))
    state = convnets.TrainState.create(
        variables, optax.identity(), jax.random.key(0), normalization=normalization
    )
    return Member(model, state, preprocess)


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 1), np.uint8)


def narrow(images):
    """Every second column, as a digit of half the width."""
    return images[:, :, ::2]


def softmax_of(member, seed, images):
    """In float64."""
    head = {name: np.float64(x) for name, x in member.state.params["head"].items()}
    x = (images / 255 - 0.1 * seed) / 0.5
    exponentials = np.exp(x.reshape(len(x), -1) @ head["kernel"] + head["bias"])
    return exponentials / exponentials.sum(1, keepdims=True)


@pytest.mark.parametrize("batch_size", [2, 256])
def test_it_is_the_mean_of_the_members_probabilities(batch_size):
    members = [member(1, (4, 6, 1)), member(2, (4, 3, 1), preprocess=narrow), member(3, (4, 6, 1))]
    views = [IMAGES, IMAGES[:, :, ::2], IMAGES]
    rows = [softmax_of(*each) for each in zip(members, (1, 2, 3), views)]
    assert np.abs(rows[0] - rows[1]).max() > 0.1
    found = predict_committee(members, IMAGES, batch_size=batch_size)
    assert (found.dtype, found.shape) == (np.float32, (5, 3))
    np.testing.assert_allclose(found, sum(rows) / 3, rtol=1e-5)


def test_members_that_do_not_fit_are_refused():
    first, other = member(1, (4, 6, 1)), member(1, (4, 6, 1), num_classes=4)
    with pytest.raises(ValueError, match="at least one member"):
        predict_committee([], IMAGES)
    with pytest.raises(ValueError, match="member 1 has 4 classes, those before it 3"):
        predict_committee([first, other], IMAGES)
    fewer = first._replace(preprocess=lambda images: images[1:])
    with pytest.raises(ValueError, match="member 0 made 4 images of 5"):
        predict_committee([fewer], IMAGES)
    with pytest.raises(ValueError, match="member 0 made no images of 5"):
        predict_committee([first._replace(preprocess=lambda images: None)], IMAGES)
    for wrong in [(first.model, first.state)], first, [Member(first.state, first.model)]:
        with pytest.raises(UserError, match="number 0 is none"):
            predict_committee(wrong, IMAGES)
    loud = first._replace(preprocess=lambda images: images.astype(np.float32))
    with pytest.raises(ValueError, match=r"floats in \[0, 1\]"):
        predict_committee([loud], IMAGES)
