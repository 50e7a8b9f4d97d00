"""Checkpoints: kept, checked leaf by leaf, restored on any number of devices."""

import errno
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets.training import Checkpoints


def make_state(value=0.0):
    variables = {"params": {"dense": {"kernel": jnp.full((40, 50), float(value))}}}
    return convnets.TrainState.create(variables, optax.adam(0.1), jax.random.key(7), ema=True)


def save_all(folder, steps, **kwargs):
    with Checkpoints(folder, **kwargs) as checkpoints:
        for step in steps:
            state = convnets.parallel.gather(make_state(step).replace(step=jnp.int32(step)))
            accuracy = 0.9 if step == 2 else 0.5
            metrics = {"validation_accuracy": accuracy, "validation_loss": 1.0}
            checkpoints.save(step, state, {"seconds": 1 / 3}, metrics)


def files_of(folder):
    return sorted(path for path in (folder / "d").iterdir())


def test_a_state_comes_back_bit_for_bit(tmp_path):
    save_all(tmp_path, [5])
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        step, state, host = checkpoints.restore(jax.eval_shape(make_state))
    expected = make_state(5).replace(step=jnp.int32(5))
    assert (step, host["seconds"]) == (5, 1 / 3)
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for found, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(expected)):
        assert isinstance(found, np.ndarray)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    save_all(tmp_path, [1, 2, 3, 4, 5], keep=2)
    with Checkpoints(tmp_path, keep=2) as checkpoints:  # and still, after a restart
        checkpoints.save(6, convnets.parallel.gather(make_state(6)), {})
        checkpoints.wait()
        assert checkpoints.steps() == [2, 5, 6]
        assert checkpoints.restore(jax.eval_shape(make_state), "best")[0] == 2
        assert checkpoints.restore(jax.eval_shape(make_state), 5)[0] == 5
        with pytest.raises(convnets.UserError, match=r"no checkpoint 4; there are \[2, 5, 6\]"):
            checkpoints.restore(jax.eval_shape(make_state), 4)


def flip_a_byte(folder):
    path = max(files_of(folder), key=os.path.getsize)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


def truncate(folder):
    for path in files_of(folder):
        os.truncate(path, path.stat().st_size // 2)


def remove_one(folder):
    files_of(folder)[0].unlink()


def change_what_the_host_kept(folder):
    path = folder.parent / "host" / "metadata"
    path.write_text(path.read_text().replace("0.333", "0.334"))


@pytest.mark.parametrize("damage", [flip_a_byte, truncate, remove_one, change_what_the_host_kept])
def test_a_damaged_one_is_said_set_aside_and_the_one_before_taken(tmp_path, damage):
    folder = tmp_path / "checkpoints"
    save_all(folder, [1, 2, 3])
    damage(folder / "3" / "state")
    said = []
    with Checkpoints(folder) as checkpoints:
        template = jax.eval_shape(make_state)
        step, state, _ = checkpoints.restore(template, say=said.append, set_aside=True)
        assert step == 2
        assert np.all(state.params["dense"]["kernel"] == 2)
        assert len(said) == 1
        assert "checkpoint 3 is damaged" in said[0]
        assert (tmp_path / "damaged-checkpoints" / "3").is_dir()
        checkpoints.save(3, convnets.parallel.gather(make_state(33)), {})
        checkpoints.wait()
        assert np.all(checkpoints.restore(template)[1].params["dense"]["kernel"] == 33)


def test_none_whole_is_an_error_and_nothing_is_moved(tmp_path):
    save_all(tmp_path, [1, 2])
    for step in (1, 2):
        truncate(tmp_path / str(step) / "state")
    for _ in range(2):
        with (
            Checkpoints(tmp_path) as checkpoints,
            pytest.raises(convnets.UserError, match="no whole checkpoint"),
        ):
            checkpoints.restore(jax.eval_shape(make_state), say=lambda text: None, set_aside=True)
        assert {"1", "2"} <= {path.name for path in tmp_path.iterdir()}


def test_a_damaged_best_gives_its_rank_away(tmp_path):
    folder = tmp_path / "checkpoints"
    save_all(folder, [1, 2, 3])
    (folder / "2" / "host" / "metadata").write_text('{"data": {"validation')
    template = jax.eval_shape(make_state)
    with Checkpoints(folder, read_only=True) as checkpoints:
        assert checkpoints.restore(template, "best")[0] in (1, 3)
        assert checkpoints.restore(template)[0] == 3
        with pytest.raises(convnets.UserError, match="no whole checkpoint"):
            checkpoints.restore(template, 2, say=lambda text: None)


def test_what_hinders_reading_is_no_damage(tmp_path, monkeypatch):
    save_all(tmp_path, [1, 2])
    with Checkpoints(tmp_path) as checkpoints:

        def fail(step):
            raise ValueError(f"Error opening a file: {os.strerror(errno.EMFILE)}")

        monkeypatch.setattr(checkpoints, "_read", fail)
        with pytest.raises(convnets.UserError, match="2 cannot be read: Too many open files"):
            checkpoints.restore(jax.eval_shape(make_state), set_aside=True)
        assert checkpoints.steps() == [1, 2]


def test_another_model_is_refused_by_name(tmp_path):
    save_all(tmp_path, [1])

    def wider():
        variables = {"params": {"dense": {"kernel": jnp.zeros((40, 51))}}}
        return convnets.TrainState.create(variables, optax.adam(0.1), jax.random.key(0), ema=True)

    def other():
        variables = {"params": {"conv": {"kernel": jnp.zeros((40, 50))}}}
        return convnets.TrainState.create(variables, optax.adam(0.1), jax.random.key(0), ema=True)

    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        with pytest.raises(convnets.UserError, match=r"kernel should be float32\[40, 51\]"):
            checkpoints.restore(jax.eval_shape(wider))
        with pytest.raises(convnets.UserError, match="missing .*conv.kernel.*not used .*dense"):
            checkpoints.restore(jax.eval_shape(other))


def test_what_is_not_finite_is_not_saved(tmp_path):
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(convnets.NotFiniteError, match="not finite at step 4, .*params.dense.kernel"),
    ):
        checkpoints.save(4, convnets.parallel.gather(make_state(float("nan"))), {})


def test_from_eight_devices_to_one_and_three(tmp_path):
    step = convnets.parallel.compile(lambda state, batch: state, devices=8)
    with Checkpoints(tmp_path) as checkpoints:
        placed = step.place_state(make_state(3.0))
        assert len(placed.step.sharding.device_set) == 8
        checkpoints.save(1, convnets.parallel.gather(placed), {})
        checkpoints.wait()
        _, state, _ = checkpoints.restore(jax.eval_shape(make_state))
    for devices in (1, 3):
        step = convnets.parallel.compile(lambda state, batch: state, devices=devices)
        again = step.place_state(state)
        assert len(again.step.sharding.device_set) == devices
        assert np.all(np.asarray(again.params["dense"]["kernel"]) == 3)
