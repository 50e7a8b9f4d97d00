import numpy as np
import pytest

from convnets.data import ArraySource, split_indices, split_validation
from convnets.data.splitting import seeded_order
from convnets.errors import UserError

LABELS = np.random.default_rng(3).choice(4, 203, p=[0.5, 0.3, 0.15, 0.05])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.9])
def test_shares_are_stratified_and_disjoint(share):
    stay, apart = split_indices(LABELS, share, seed=1)
    np.testing.assert_array_equal(np.sort(np.concatenate([stay, apart])), np.arange(203))
    assert abs(len(apart) - share * 203) <= 0.5
    taken = np.bincount(LABELS[apart], minlength=4)
    assert np.abs(taken - share * np.bincount(LABELS)).max() <= 1


def test_the_seed_decides():
    _, apart = split_indices(LABELS, 0.2, seed=1)
    np.testing.assert_array_equal(apart, split_indices(LABELS, 0.2, seed=1)[1])
    assert set(apart) != set(split_indices(LABELS, 0.2, seed=2)[1])


def test_within_a_class_every_example_has_the_same_chance():
    counts = np.zeros(20)
    for seed in range(400):
        counts[split_indices(np.zeros(20, int), 0.25, seed)[1]] += 1
    assert np.abs(counts - 100).max() < 45  # 5 standard deviations


def test_orders_are_frozen():
    """Runs are resumed and repeated by them: they must never change."""
    assert seeded_order(8, 0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert seeded_order(8, 7, 2).tolist() == [6, 7, 4, 0, 1, 5, 3, 2]
    assert sorted(seeded_order(1000, 1, 2)) == list(range(1000))
    assert seeded_order(50, 1, 2).tolist() != seeded_order(50, 2, 1).tolist()


def test_split_validation_gives_sources_or_refuses():
    source = ArraySource(np.arange(203, dtype=np.uint8).reshape(-1, 1, 1, 1), LABELS)
    train, validation = split_validation(source, 0.2, seed=4)
    assert len(train) + len(validation) == 203
    pixels = np.concatenate([train.images, validation.images]).ravel()
    np.testing.assert_array_equal(np.sort(pixels), np.arange(203))
    for share in (0.001, 0.995):
        with pytest.raises(UserError, match=f"a share of {share} of 203 examples in 4 classes"):
            split_validation(source, share)
