"""The multi-stage stacks against SciPy and loops, and the sizes of the paper."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from convnets.errors import UserError
from convnets.models import Stage, Stages, StageSize, create_model, list_models, random_connections
from convnets.ops import local_contrast_normalization


def pool_by_loops(x, window, stride, reduce):
    rows = range(0, x.shape[1] - window + 1, stride)
    columns = range(0, x.shape[2] - window + 1, stride)
    windows = [[x[:, i : i + window, j : j + window] for j in columns] for i in rows]
    return np.stack([np.stack([reduce(w, (1, 2)) for w in row], 1) for row in windows], 1)


@pytest.mark.parametrize(
    ("rectify", "normalize", "pool"),
    list(itertools.product([True, False], [True, False], ["average", "max"])),
)
def test_a_stage_is_what_its_letters_say(rectify, normalize, pool):
    size = StageSize(maps=3, kernel_size=5, pool=4, stride=3)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 14, 17, 2)).astype(np.float32)
    kernel = rng.standard_normal((5, 5, 2, 3)).astype(np.float32) / 5
    gain = np.float32([0.5, -1.5, 2])
    params = {"filters": {"kernel": kernel}, "gain": gain}
    y = Stage(size, rectify, normalize, pool).apply({"params": params}, jnp.asarray(x))

    expected = np.zeros((2, 10, 13, 3))
    for example, i, j in np.ndindex(2, 2, 3):
        expected[example, ..., j] += correlate2d(x[example, ..., i], kernel[..., i, j], "valid")
    expected = gain * np.tanh(expected)
    if rectify:
        expected = np.abs(expected)
    if normalize:
        expected = np.asarray(local_contrast_normalization(jnp.asarray(expected, jnp.float32)))
    expected = pool_by_loops(expected, 4, 3, np.mean if pool == "average" else np.max)
    assert y.shape == (2, 3, 4, 3)
    np.testing.assert_allclose(y, expected, atol=1e-4)


def test_a_partial_stage_combines_only_its_maps():
    size = StageSize(maps=4, kernel_size=3, pool=2, stride=2, seen=2)
    stage = Stage(size, rectify=False, normalize=False, table_seed=3)
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 5)).astype(np.float32)
    variables = stage.init(jax.random.key(0), x)
    assert variables["params"]["filters"]["kernel"].shape == (3, 3, 8)
    assert "bias" not in variables["params"]["filters"]
    y = stage.apply(variables, x)
    for channel in range(5):
        changed = x.copy()
        changed[..., channel] += 1
        moved = np.abs(stage.apply(variables, changed) - y).max((0, 1, 2)) > 0
        seen = [channel in combined for combined in random_connections(4, 2, 5, seed=3)]
        np.testing.assert_array_equal(moved, seen)


def test_connections_are_drawn_without_repetition_and_by_the_seed():
    table = random_connections(256, 16, 64)
    assert {len(set(seen)) for seen in table} == {16}
    assert set().union(*table) == set(range(64))
    assert table == random_connections(256, 16, 64, seed=0)
    assert table != random_connections(256, 16, 64, seed=1)
    with pytest.raises(ValueError, match="16 of 8 maps"):
        random_connections(256, 16, 8)


@pytest.mark.parametrize("name", list_models("jarrett*"))
def test_map_sizes_of_the_paper(name):
    """143x143 pixels, 26x26 after the first stage, 4x4 after the second; 4,096 filters there."""
    model = create_model(name)
    images = jax.ShapeDtypeStruct((2, 143, 143, 1), jnp.float32)
    endpoints, variables = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=False, method="endpoints"),
        images,
    )
    params = variables["params"]["backbone"]
    assert endpoints["stage1"].shape == (2, 26, 26, 64)
    assert params["stage1"]["filters"]["kernel"].shape == (9, 9, 1, 64)
    if name.startswith("jarrett2"):
        assert endpoints["stage2"].shape == (2, 4, 4, 256)
        assert params["stage2"]["filters"]["kernel"].shape == (9, 9, 4096)
    else:
        assert "stage2" not in endpoints


def test_the_grid_is_registered():
    kinds = {"abs_norm_average", "abs_average", "norm_max", "norm_average", "average", "max"}
    assert {*list_models("jarrett*")} == {f"jarrett{n}_{kind}" for n in (1, 2) for kind in kinds}


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="came 'median'"):
        Stage(StageSize(2, 3, 2, 2), pool="median").init(jax.random.key(0), jnp.ones((1, 9, 9, 1)))
    with pytest.raises(UserError, match="came 7x7"):
        Stages().init(jax.random.key(0), jnp.ones((1, 50, 50, 1)), train=False)
