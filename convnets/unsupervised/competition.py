"""How the Neocognitron learns: winners of a competition are reinforced, without labels."""

from functools import partial

import jax
import jax.numpy as jnp

from ..layers import relu
from ..models.neocognitron import Neocognitron, Pair, complex_cells, inhibition, mask, simple_cells
from ..ops import max_pool

COLUMN = 5  # side of an S-column, in cells


def train_layers(
    backbone: Neocognitron, params, images, *, presentations: int = 1, column: int = COLUMN
):
    """The parameters after every layer, from the first, has seen the images.

    Args:
      params: of the backbone as initialized, or from earlier training.
      images: float `[N, H, W, C]`, presented one after the other in their order.
      presentations: how often each layer sees all of them.
      column: side of an S-column, odd.

    Reference: Fukushima 1980, section 3. Differs: a layer has learned before the next begins, as
    in Fukushima 1988 and 2003; the paper reinforced all of them at each presentation.

    >>> images = jax.random.uniform(jax.random.key(0), (4, 16, 16, 1))
    >>> backbone = Neocognitron()
    >>> params = backbone.init(jax.random.key(1), images, train=False)["params"]
    >>> bool((train_layers(backbone, params, images)["s1"]["b"] > 0).any())
    True
    """
    x, trained = relu(images), {}
    for number, pair in enumerate(backbone.pairs, 1):
        layer = params[f"s{number}"]
        for _ in range(presentations):
            layer = train_layer(layer, x, pair=Pair(*pair), column=column)
        trained[f"s{number}"] = layer
        x = _forward(layer, x, pair=Pair(*pair))
    return trained


@partial(jax.jit, static_argnames=("pair", "column"))
def train_layer(layer, x, *, pair: Pair, column: int = COLUMN):
    """The weights of one S-layer after each of the examples in turn has been `reinforce`d.

    Args:
      layer: `{"a": …, "b": …}`.
      x: what the layer sees, `[N, H, W, C]`.

    Returns: the new weights, of the same shapes.
    """
    step = partial(reinforce, pair=pair, column=column)
    return jax.lax.scan(lambda layer, x: (step(layer, x), None), layer, x)[0]


def reinforce(layer, x, *, pair: Pair, column: int = COLUMN):
    """One presentation: every plane that has a winner takes over more of what its winner sees.

    `a += q c u` and `b += q / 2 v` at the winner, `c` and `v` as in `neocognitron.inhibition`.
    Planes without a winner stay as they are.

    Args:
      layer: `{"a": [field, field, C, planes], "b": [planes]}`.
      x: one example, `[H, W, C]`.

    Reference: Fukushima 1980, equations 7 and 8.
    """
    selectivity = pair.selectivity if pair.learning is None else pair.learning
    options = dict(selectivity=selectivity, padding=pair.padding)
    s = simple_cells(x[None], layer["a"], layer["b"], **options)
    return _take_over(layer, x, *winners(s[0], column), pair)


def winners(s, column: int):
    """The seed cell of each plane, if it has one.

    A cell is a candidate if it is the strongest, of all planes, in some S-column (the cells of
    `column` x `column` places) that it lies in, and not silent. Of the candidates of a plane the
    strongest is its seed cell.

    Args:
      s: `[H, W, planes]`, not negative.
      column: odd; columns are centered on every place and cut off at the edges.

    Returns: `(place [planes], won [planes])`: the winner's place in the raveled `[H, W]`, and
      whether there is one.

    Raises: ValueError for an even column.

    Reference: Fukushima 1980, section 3.

    >>> place, won = winners(jnp.array([[[3.0, 2.0], [0.0, 1.0]]]), column=1)
    >>> place.tolist(), won.tolist()
    ([0, 1], [True, True])
    """
    if column < 1 or column % 2 == 0:
        raise ValueError(f"expected an odd column of at least 1, came {column}")
    pool = partial(max_pool, window=column, stride=1, padding=column // 2)
    strongest = pool(s.max(2)[None, :, :, None])  # of the column around each place
    weakest = -pool(-strongest)[0]  # of the columns that a cell lies in
    candidates = (s > 0) & (s >= weakest)
    values = jnp.where(candidates, s, 0).reshape(-1, s.shape[2])
    return values.argmax(0), values.max(0) > 0


@partial(jax.jit, static_argnames="pair")
def _forward(layer, x, *, pair: Pair):
    options = dict(selectivity=pair.selectivity, padding=pair.padding)
    return complex_cells(simple_cells(x, layer["a"], layer["b"], **options), pair.blur)


@partial(jax.jit, static_argnames="pair")
def train_labeled_layer(layer, x, labels, *, pair: Pair):
    """The topmost S-layer, learned from examples with labels, without gradients.

    Where the strongest cell of the layer bears the label of the example, its plane is reinforced.
    Where it bears another, or all are silent, a new plane is made of the example and takes its
    label, as long as there are planes left; it is seeded where the example is strongest.

    Args:
      layer: `unlabeled_layer(…)`, or what this function returned.
      x: the C-layer before, `[N, H, W, C]`.
      labels: `[N]`, integers from 0.

    Returns: the layer after all examples in turn: `{"a": …, "b": …, "label": [planes]}`, the label
      -1 for planes that are not used.

    Reference: Fukushima 2003, "Neocognitron for handwritten digit recognition", section 2.5, the
    layer S4.
    """
    cells = partial(simple_cells, padding=pair.padding)
    selectivity = pair.selectivity if pair.learning is None else pair.learning

    def step(layer, example):
        x, label = example
        s = cells(x[None], layer["a"], layer["b"], selectivity=selectivity)[0]
        values = s.reshape(-1, pair.planes)
        plane = values.max(0).argmax()
        right = (values.max() > 0) & (layer["label"][plane] == label)
        unused = layer["label"] < 0
        brightest = inhibition(x[None], pair.field, pair.padding).argmax()
        plane = jnp.where(right, plane, unused.argmax())
        place = jnp.where(right, values[:, plane].argmax(), brightest)
        chosen = (jnp.arange(pair.planes) == plane) & (right | unused.any())
        weights = {"a": layer["a"], "b": layer["b"]}
        places = jnp.full(pair.planes, place)
        after = _take_over(weights, x, places, chosen, pair)
        return {**after, "label": jnp.where(chosen, label, layer["label"])}, None

    return jax.lax.scan(step, layer, (x, labels))[0]


def unlabeled_layer(channels: int, pair: Pair) -> dict:
    """A topmost layer that has learned nothing: `{"a": …, "b": …, "label": …}`."""
    return {
        "a": jnp.zeros((pair.field, pair.field, channels, pair.planes)),
        "b": jnp.zeros(pair.planes),
        "label": jnp.full(pair.planes, -1),
    }


@partial(jax.jit, static_argnames="pair")
def classify(layer, x, *, pair: Pair):
    """The label of the strongest cell of a topmost layer for each example: `[N]`.

    Where all of them are silent the answer is -1. Reference: Fukushima 2003, section 2.5.
    """
    cells = simple_cells(
        x, layer["a"], layer["b"], selectivity=pair.selectivity, padding=pair.padding
    )
    strongest = cells.max((1, 2))
    return jnp.where(strongest.max(1) > 0, layer["label"][strongest.argmax(1)], -1)


def _take_over(layer, x, place, won, pair: Pair):
    """The weights after each plane that has won has learned what lies at its place."""
    height, width = (n + 2 * pair.padding - pair.field + 1 for n in x.shape[:2])
    rows, columns = jnp.unravel_index(place, (height, width))
    padded = jnp.pad(x, ((pair.padding, pair.padding), (pair.padding, pair.padding), (0, 0)))
    shape = (pair.field, pair.field, x.shape[2])
    seen = jax.vmap(lambda i, j: jax.lax.dynamic_slice(padded, (i, j, 0), shape))(rows, columns)
    c = jnp.asarray(mask(pair.field), x.dtype)[:, :, None, None] / x.shape[2]
    rate = pair.rate * won.astype(x.dtype)
    v = inhibition(x[None], pair.field, pair.padding)[0, rows, columns, 0]
    a = layer["a"] + rate.reshape(1, 1, 1, -1) * c * jnp.moveaxis(seen, 0, 3)
    return {"a": a, "b": layer["b"] + rate / 2 * v}
