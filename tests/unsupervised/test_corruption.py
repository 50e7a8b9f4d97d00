"""What noise does to an image, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.unsupervised import CORRUPTIONS, add_gaussian_noise, add_salt_and_pepper, mask_pixels

KEY = jax.random.key(0)
IMAGE = jnp.full((100, 100, 1), 0.5)


def test_masking_zeroes_a_share_and_leaves_the_rest():
    masked = mask_pixels(KEY, IMAGE, share=0.3)
    assert set(np.unique(masked)) == {0.0, 0.5}
    assert abs((masked == 0).mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 1e4)


def test_gaussian_noise_has_its_deviation():
    noise = add_gaussian_noise(KEY, IMAGE, deviation=0.2) - IMAGE
    assert abs(noise.mean()) < 4 * 0.2 / 100
    assert abs(noise.std() - 0.2) < 4 * 0.2 / np.sqrt(2e4)


def test_salt_and_pepper_come_in_equal_parts():
    noisy = add_salt_and_pepper(KEY, IMAGE, share=0.4, low=-1, high=2)
    for value, share in ((-1, 0.2), (2, 0.2), (0.5, 0.6)):
        assert abs((noisy == value).mean() - share) < 4 * np.sqrt(share * (1 - share) / 1e4)


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values())
def test_one_key_is_one_noise(corrupt):
    np.testing.assert_array_equal(corrupt(KEY, IMAGE), corrupt(KEY, IMAGE))
    assert (corrupt(KEY, IMAGE) != corrupt(jax.random.key(1), IMAGE)).any()


def test_what_is_no_share_is_refused():
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\]"):
        mask_pixels(KEY, IMAGE, share=1.5)
    with pytest.raises(ValueError, match="deviation must not be negative"):
        add_gaussian_noise(KEY, IMAGE, deviation=-1)
