"""The Neocognitron's learning: who wins, and what the winners alone take over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.models import Neocognitron
from convnets.models.neocognitron import Pair, inhibition, mask, simple_cells
from convnets.unsupervised import competition
from convnets.unsupervised.competition import reinforce, winners

PAIR = Pair(planes=6, field=3, padding=1, blur=2, selectivity=2.0, rate=3.0)


def layer_and_image(seed=0, side=9, channels=2):
    rng = np.random.default_rng(seed)
    a = rng.uniform(size=(3, 3, channels, PAIR.planes)).astype(np.float32)
    b = rng.uniform(size=PAIR.planes).astype(np.float32)
    x = rng.uniform(size=(side, side, channels)).astype(np.float32)
    return {"a": jnp.asarray(a), "b": jnp.asarray(b)}, jnp.asarray(x)


def winners_by_loops(s, column):
    """Look into every S-column for its strongest cell; keep the strongest of each plane."""
    height, width, _ = s.shape
    best = {}
    for i, j in np.ndindex(height, width):
        rows = slice(max(0, i - column // 2), i + column // 2 + 1)
        columns = slice(max(0, j - column // 2), j + column // 2 + 1)
        cells = s[rows, columns]
        y, x, k = np.unravel_index(cells.argmax(), cells.shape)
        place = (rows.start + y) * width + columns.start + x
        if cells.max() > 0 and (k not in best or cells.max() > best[k][0]):
            best[k] = cells.max(), place
    return {int(k): int(place) for k, (_, place) in best.items()}


@pytest.mark.parametrize("column", [1, 3, 5, 31])
def test_winners_are_those_of_the_columns(column):
    s = np.random.default_rng(column).uniform(-1, 1, (8, 9, 10)).clip(0).astype(np.float32)
    place, won = winners(jnp.asarray(s), column)
    found = {k: int(place[k]) for k in range(10) if won[k]}
    assert found == winners_by_loops(s, column)
    if column == 31:  # one column: one winner
        assert len(found) == 1
    assert not winners(jnp.zeros((4, 4, 2)), column)[1].any()


def test_even_columns_are_refused():
    with pytest.raises(ValueError, match="odd column"):
        winners(jnp.zeros((4, 4, 2)), 4)


def test_only_winners_change_and_take_over_what_they_see():
    layer, x = layer_and_image()
    after = reinforce(layer, x, pair=PAIR, column=5)
    s = simple_cells(x[None], **layer, selectivity=2.0, padding=1)[0]
    expected = winners_by_loops(np.asarray(s), 5)
    assert 0 < len(expected) < PAIR.planes
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    v = np.asarray(inhibition(x[None], 3, 1))[0, ..., 0]
    for plane in range(PAIR.planes):
        gained = after["a"][..., plane] - layer["a"][..., plane]
        inhibited = float(after["b"][plane] - layer["b"][plane])
        if plane not in expected:
            np.testing.assert_array_equal(gained, 0)
            assert inhibited == 0
            continue
        i, j = divmod(expected[plane], x.shape[1])
        c = mask(3)[..., None] / 2
        np.testing.assert_allclose(gained, 3 * c * padded[i : i + 3, j : j + 3], atol=1e-6)
        assert inhibited == pytest.approx(3 / 2 * v[i, j], rel=1e-5)


def test_a_winner_answers_more_to_what_it_has_seen():
    layer = {"a": 1e-4 * layer_and_image()[0]["a"], "b": jnp.zeros(PAIR.planes)}
    _, x = layer_and_image(1, side=3)
    before = simple_cells(x[None], **layer, selectivity=2.0, padding=1)
    after = reinforce(layer, x, pair=PAIR, column=5)
    answers = simple_cells(x[None], **after, selectivity=2.0, padding=1)
    (winner,) = np.flatnonzero(np.asarray(after["b"]))
    assert answers[..., winner].max() > 100 * before[..., winner].max()
    np.testing.assert_array_equal(
        np.delete(answers, winner, axis=3), np.delete(before, winner, axis=3)
    )


def test_the_selectivity_while_learning_may_be_another():
    layer = {"a": jnp.full((3, 3, 2, 6), 0.25), "b": jnp.full(6, 3.0)}
    x = jnp.ones((5, 5, 2))  # excites by 4.5, is inhibited by 4 if r = 2, by 6 if r is large
    assert np.abs(reinforce(layer, x, pair=PAIR)["a"] - layer["a"]).max() > 0
    silent = reinforce(layer, x, pair=PAIR._replace(learning=1e6))
    for name in ("a", "b"):
        np.testing.assert_array_equal(silent[name], layer[name])


def test_two_features_go_to_two_planes():
    """Bars of two directions, shown again and again: each gets planes of its own."""
    rng = np.random.default_rng(0)
    images = np.zeros((20, 9, 9, 1), np.float32)
    for number in range(20):
        place = rng.integers(2, 7)
        image = images[number, ..., 0]
        image[place if number % 2 else slice(None), slice(None) if number % 2 else place] = 1
    pair = Pair(planes=8, field=3, padding=0, blur=2, selectivity=4.0, rate=1.0)
    backbone = Neocognitron((pair,))
    params = backbone.init(jax.random.key(0), images[:1], train=False)["params"]
    trained = competition.train_layers(backbone, params, jnp.asarray(images), presentations=2)
    s1 = backbone.apply({"params": trained}, images, train=False)["s1"]
    answers = np.asarray(s1[:, 2:5, 2:5].max((1, 2)))
    columns, rows = answers[::2].mean(0), answers[1::2].mean(0)
    assert ((columns > 0.01) & (rows < 1e-3)).any()
    assert ((rows > 0.01) & (columns < 1e-3)).any()
    for layer, before in zip(trained.values(), params.values()):
        assert (layer["a"] >= before["a"]).all()


def test_a_labeled_layer_makes_planes_for_what_it_gets_wrong():
    pair = Pair(planes=4, field=3, padding=0, blur=1, selectivity=1.0, rate=1e3)
    rng = np.random.default_rng(0)
    kinds = rng.uniform(size=(3, 3, 3, 2)) * (rng.uniform(size=(3, 3, 3, 2)) > 0.6)
    x, labels = jnp.float32(kinds[[0, 0, 1, 2, 1]]), jnp.array([5, 5, 7, 5, 7])
    layer = competition.unlabeled_layer(2, pair)
    assert (competition.classify(layer, x, pair=pair) == -1).all()
    layer = competition.train_labeled_layer(layer, x, labels, pair=pair)
    assert layer["label"].tolist() == [5, 7, 5, -1]
    np.testing.assert_array_equal(competition.classify(layer, x, pair=pair), labels)
    c = mask(3)[..., None] / 2
    np.testing.assert_allclose(layer["a"][..., 0], 2e3 * c * kinds[0], rtol=1e-5)  # seen twice
    np.testing.assert_allclose(layer["a"][..., 2], 1e3 * c * kinds[2], rtol=1e-5)
    np.testing.assert_array_equal(layer["a"][..., 3], 0)


def test_a_full_layer_makes_no_more_planes():
    pair = Pair(planes=1, field=1, padding=0, blur=1, selectivity=1.0, rate=1e3)
    x = jnp.float32([[[[1, 0]]], [[[0, 1]]]])
    layer = competition.unlabeled_layer(2, pair)
    layer = competition.train_labeled_layer(layer, x, jnp.array([0, 1]), pair=pair)
    assert layer["label"].tolist() == [0]
    np.testing.assert_allclose(layer["a"][0, 0, :, 0], [500, 0])
