"""Small networks to look into, whose every step a test can do by hand."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convnets import ops
from convnets.layers import Conv, relu
from convnets.models import Classifier

NORMALIZATION = ((0.4, 0.5), (0.2, 0.3))


class TwoConvolutions(nn.Module):
    """Convolution, activation, overlapping max pooling, and a second convolution with a stride."""

    activation: Callable = relu
    widths: tuple[int, int] = (4, 5)

    @nn.compact
    def __call__(self, images, *, train: bool):
        conv1 = self.activation(Conv(self.widths[0], 3, padding=1, name="conv1")(images))
        pool1 = ops.max_pool(conv1, 3, 2)
        conv2 = self.activation(Conv(self.widths[1], 3, 2, padding=0, name="conv2")(pool1))
        return {"conv1": conv1, "pool1": pool1, "conv2": conv2}


def identity(x):
    return x


def classifier(activation=relu, widths=(4, 5)):
    return Classifier(TwoConvolutions(activation, widths), num_classes=3, pool="average")


def random_images(number=2, size=11, channels=2):
    return np.random.default_rng(0).uniform(size=(number, size, size, channels)).astype(np.float32)


def random_variables(model, images, seed=0):
    """Variables of which none is zero, biases and statistics included."""
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        values = rng.normal(size=leaf.shape) / np.sqrt(max(1, np.prod(leaf.shape[:-1])))
        return jnp.asarray(np.abs(values) + 0.5 if name in ("var", "scale") else values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, variables)
