import itertools

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from convnets.data import (
    ArraySource,
    batch_indices,
    batches,
    evaluation_batches,
    resident_batches,
)
from convnets.data.splitting import seeded_order
from convnets.errors import UserError

from .records import make_examples


@pytest.fixture
def source():
    return ArraySource(*make_examples(21))


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert one[key].dtype == other[key].dtype
        np.testing.assert_array_equal(np.asarray(one[key]), np.asarray(other[key]))


@pytest.mark.parametrize("batch_size", [1, 4, 7, 10, 25])
def test_steps_cut_the_epochs_laid_end_to_end(batch_size):
    epochs = np.concatenate([seeded_order(10, 3, epoch) for epoch in range(40)])
    for step in range(12):
        indices = batch_indices(10, batch_size, step, seed=3)
        expected = epochs[step * batch_size : (step + 1) * batch_size]
        np.testing.assert_array_equal(indices, expected)
        assert indices.dtype == np.int64


def test_every_epoch_is_a_new_order_of_all_examples():
    epochs = [batch_indices(50, 50, step, seed=1) for step in range(4)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert not np.array_equal(epochs[0], batch_indices(50, 50, 0, seed=2))


def test_a_start_in_the_middle_gives_the_same_batches(source):
    from_step = batches(source, 8, seed=2)
    whole = take(from_step(0), 9)
    for start in (1, 2, 5):
        for batch, expected in zip(take(from_step(start), 4), whole[start:]):
            assert_equal(batch, expected)
    assert whole[0]["image"].shape == (8, 6, 5, 1)
    indices = batch_indices(21, 8, 4, seed=2)
    np.testing.assert_array_equal(whole[4]["image"], source.images[indices])


def test_processes_share_each_batch(source):
    shares = [
        batches(source, 12, seed=2, process_index=index, process_count=3)(5) for index in range(3)
    ]
    for expected in take(batches(source, 12, seed=2)(5), 3):
        parts = [next(share) for share in shares]
        assert_equal({k: np.concatenate([part[k] for part in parts]) for k in expected}, expected)


def test_resident_batches_equal_those_of_the_host(source):
    for host, device in zip(
        take(batches(source, 8, seed=6)(3), 5), resident_batches(source, 8, seed=6)(3)
    ):
        assert isinstance(device["image"], jax.Array)
        assert_equal(device, host)


def test_resident_batches_over_devices(source):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    replicated = NamedSharding(mesh, PartitionSpec())
    resident = resident_batches(source, 16, seed=6, sharding=sharding, replicated=replicated)
    for host, device in zip(take(batches(source, 16, seed=6)(0), 4), resident(0)):
        assert_equal(device, host)
        assert device["image"].sharding.is_equivalent_to(sharding, 4)
        assert device["label"].sharding.is_equivalent_to(sharding, 1)
        assert {shard.data.shape for shard in device["image"].addressable_shards} == {(2, 6, 5, 1)}


@pytest.mark.parametrize("batch_size", [1, 7, 8, 21, 64])
def test_evaluation_counts_every_example_once_and_in_order(source, batch_size):
    parts = list(evaluation_batches(source, batch_size))
    assert {part["image"].shape for part in parts} == {(batch_size, 6, 5, 1)}
    assert {part["mask"].shape for part in parts} == {(batch_size,)}
    images = np.concatenate([part["image"][part["mask"]] for part in parts])
    labels = np.concatenate([part["label"][part["mask"]] for part in parts])
    np.testing.assert_array_equal(images, source.images)
    np.testing.assert_array_equal(labels, source.labels)
    padding = parts[-1]["image"][~parts[-1]["mask"]]
    assert (padding == source.images[-1]).all()


def test_processes_share_evaluation_batches(source):
    shares = [evaluation_batches(source, 8, process_index=i, process_count=4) for i in range(4)]
    for expected, *parts in zip(evaluation_batches(source, 8), *shares, strict=True):
        assert_equal({k: np.concatenate([part[k] for part in parts]) for k in expected}, expected)


@pytest.mark.parametrize("make", [batches, resident_batches])
def test_impossible_batch_sizes(source, make):
    for size in (0, -1):
        with pytest.raises(UserError, match=f"at least 1, not {size}"):
            make(source, size)
    with pytest.raises(UserError, match="batch size 22 is larger than the train split of 21"):
        make(source, 22)
    make(source, 21)
    with pytest.raises(UserError, match="at least 1, not 0"):
        evaluation_batches(source, 0)
    for function in (batches, evaluation_batches):
        with pytest.raises(UserError, match="3 processes do not divide the batch size 8"):
            function(source, 8, process_count=3)
