"""SqueezeNet: few parameters by narrow layers before wide ones.

Reference: Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer 2016, "SqueezeNet: AlexNet-level accuracy
with 50x fewer parameters and <0.5MB model size".
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from ..errors import UserError
from ..layers import Conv, he_uniform, relu, run_stage
from ..ops import max_pool
from .classifier import Classifier, pool_named
from .entry import Entry

WIDTHS = (64, 64, 128, 128, 192, 192, 256, 256)  # of the expanding half of each fire module


class Fire(nn.Module):
    """A 1x1 convolution to a quarter of `features` over two, then a 1x1 and a 3x3 side by side.

    Attribute: `features`, of each of the two; the squeezing convolution has a quarter of it.

    Reference: Iandola et al. 2016, figure 1.
    """

    features: int

    @nn.compact
    def __call__(self, x):  # [B, H, W, C] -> [B, H, W, 2 * features]
        conv = partial(Conv, kernel_init=he_uniform())
        x = relu(conv(self.features // 4, 1, name="squeeze")(x))
        wide = (
            conv(self.features, 1, name="expand1x1")(x),
            conv(self.features, 3, name="expand3x3")(x),
        )
        return jnp.concatenate([relu(y) for y in wide], 3)


class SqueezeNet(nn.Module):
    """A convolution and eight fire modules, with three poolings among them.

    Attributes:
      stem_features, stem_size: of the first convolution.
      pooled: the layers behind which there is a pooling: 1 is the stem, 2 to 9 are fire modules.
      checkpoint: the backward pass computes everything between two poolings again.

    Endpoints: `stem`, `fire2`, …, `fire9`, before any pooling behind them.

    Reference: Iandola et al. 2016, table 1 (version 1.0) and the authors' release of version 1.1.
    Differs: poolings round up in size and the stem is not padded, as in torchvision.
    """

    stem_features: int
    stem_size: int
    pooled: tuple[int, int, int]
    checkpoint: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        x, endpoints = images, {}
        for first, last in zip((1, *(layer + 1 for layer in self.pooled)), (*self.pooled, 9)):
            endpoints |= run_stage(self, SqueezeNet._run_stage, x, first=first, last=last)
            x = endpoints[_name(last)]
        return {_name(layer): endpoints[_name(layer)] for layer in range(1, 10)}

    def _run_stage(self, x, first, last):
        endpoints = {}
        if first > 1:
            x = max_pool(x, 3, 2, ceil_mode=True)
        for layer in range(first, last + 1):
            if layer == 1:
                stem = Conv(
                    self.stem_features,
                    self.stem_size,
                    2,
                    padding=0,
                    kernel_init=he_uniform(),
                    name="conv1",
                )
                x = relu(stem(x))
            else:
                x = Fire(WIDTHS[layer - 2], name=_name(layer))(x)
            endpoints[_name(layer)] = x
        return endpoints


def _name(layer: int) -> str:
    return "stem" if layer == 1 else f"fire{layer}"


class PixelClassifier(Classifier):
    """A head for every pixel: dropout, a dense layer over the channels, ReLU, and then the pool.

    The pre-logits are the pooled features, which the logits do without.

    Reference: Iandola et al. 2016, table 1, `conv10` and `avgpool10`.
    """

    def _score(self, x, last, train):
        logits = pool_named(self.pool)(relu(super()._score(last, last, train)))
        if logits.shape[-1] != self.num_classes:
            raise UserError(
                f"the pool {self.pool!r} makes {logits.shape[-1]} values of the scores of "
                f"{self.num_classes} classes; try 'average', 'max' or 'l2'"
            )
        return logits


def entry(stem_features: int, stem_size: int, pooled: tuple[int, int, int]) -> Entry:
    backbone = partial(SqueezeNet, stem_features=stem_features, stem_size=stem_size, pooled=pooled)
    return Entry(backbone, classifier=PixelClassifier, defaults={"dropout": 0.5})


MODELS = {
    "squeezenet1_0": entry(96, 7, (1, 4, 8)),
    "squeezenet1_1": entry(64, 3, (1, 3, 5)),
}
