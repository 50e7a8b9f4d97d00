"""Few labels of each class."""

import numpy as np
import pytest

from convnets import data
from convnets.errors import UserError


@pytest.fixture(scope="module")
def digits():
    return data.load_dataset("digits")


def test_so_many_of_each_class_are_kept(digits):
    kept = data.keep_per_class(digits, 7, seed=3)
    assert np.bincount(kept.train.labels).tolist() == [7] * 10
    assert kept.test is digits.test
    more = data.choose_per_class(digits.train.labels, 9, seed=3)
    less = data.choose_per_class(digits.train.labels, 7, seed=3)
    assert set(less) < set(more)
    assert set(less) != set(data.choose_per_class(digits.train.labels, 7, seed=4))


def test_labels_are_hidden_from_all_but_these(digits):
    hidden = data.hide_labels(digits, 7, seed=3).train
    assert len(hidden) == len(digits.train)
    known = hidden.labels >= 0
    kept = data.keep_per_class(digits, 7, seed=3).train
    assert np.array_equal(hidden.images[known], kept.images)
    assert np.array_equal(hidden.labels[known], kept.labels)
    assert hidden.images.sum() == digits.train.images.sum()


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5])
def test_labels_come_as_often_as_asked_for(digits, share):
    hidden = data.hide_labels(digits, 2, share=share).train.labels
    known = (hidden >= 0).sum()
    assert known >= 20
    assert known == 20 or known / len(hidden) == pytest.approx(share, abs=1e-3)


def test_what_cannot_be_is_refused(digits):
    with pytest.raises(UserError, match="500 examples of class 0, of which there are"):
        data.keep_per_class(digits, 500)
    with pytest.raises(UserError, match="share of examples with a label"):
        data.hide_labels(digits, 5, share=1.0)
