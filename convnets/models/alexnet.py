"""AlexNet in one tower."""

from functools import partial

import flax.linen as nn

from ..layers import Conv, he_normal, relu
from ..ops import adaptive_average_pool, max_pool
from .classifier import Classifier, flatten
from .entry import Entry
from .perceptron import DenseLayers


class AlexNet(nn.Module):
    """Five convolutions, pooled behind the first, the second and the last.

    Endpoints: `conv1`, `pool1`, `conv2`, `pool2`, `conv3`, `conv4`, `conv5`, `pool5`, convolutions
    after their ReLU; `pool5` is `[B, 6, 6, 256]` for images of 224x224 pixels, and images have at
    least 63x63.

    Reference: Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep convolutional
    neural networks", section 3; Krizhevsky 2014, "One weird trick for parallelizing convolutional
    neural networks", section 5, for one tower and its widths. Differs: no local response
    normalization, and dropout before both hidden layers of the head instead of behind them, as in
    torchvision; weights start at He's variance, biases at zero, not at a deviation of 0.01 and,
    for some, at one.

    >>> images = jax.ShapeDtypeStruct((1, 224, 224, 3), "float32")
    >>> run = partial(AlexNet().init_with_output, train=False)
    >>> jax.eval_shape(run, jax.random.key(0), images)[0]["pool5"].shape
    (1, 6, 6, 256)
    """

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        conv = partial(Conv, kernel_init=he_normal())
        pool = partial(max_pool, window=3, stride=2)
        endpoints = {}
        x = endpoints["conv1"] = relu(conv(64, 11, 4, padding=2, name="conv1")(images))
        x = endpoints["pool1"] = pool(x)
        x = endpoints["conv2"] = relu(conv(192, 5, name="conv2")(x))
        x = endpoints["pool2"] = pool(x)
        x = endpoints["conv3"] = relu(conv(384, 3, name="conv3")(x))
        x = endpoints["conv4"] = relu(conv(256, 3, name="conv4")(x))
        x = endpoints["conv5"] = relu(conv(256, 3, name="conv5")(x))
        endpoints["pool5"] = pool(x)
        return endpoints


def pool_to_row(x, side: int = 6):
    """Means of `side` times `side` bins in one row, `[B, H, W, C] -> [B, side * side * C]`.

    The row counts channels fastest. PyTorch's count them slowest: a dense kernel of `[features,
    C * 6 * 6]` there is `[6 * 6 * C, features]` here, by way of `[6, 6, C, features]`.
    """
    return flatten(adaptive_average_pool(x, side))


MODELS = {
    "alexnet": Entry(
        AlexNet,
        classifier=partial(
            Classifier, hidden=partial(DenseLayers, features=(4096, 4096), dropout=0.5)
        ),
        defaults={"pool": pool_to_row},
    )
}
