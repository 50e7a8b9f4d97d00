"""Configs of one run, and of several processes of it."""

import pytest

from convnets import UserError
from convnets.training.sameness import require_same_settings


def test_what_differs_between_processes_names_both():
    first = {"batch_size": 64, "workers": 0, "dataset": {"train_examples": 100}}
    require_same_settings(first, first | {"workers": 2}, 3)
    other = first | {"batch_size": 32, "dataset": {"train_examples": 90}}
    with pytest.raises(UserError, match="batch_size: 64 in process 0, 32 in process 3; ") as said:
        require_same_settings(first, other, 3)
    assert "dataset.train_examples: 100 in process 0, 90 in process 3" in str(said.value)
