"""The VGG networks, with and without batch norm.

Reference: Simonyan, Zisserman 2015, "Very deep convolutional networks for large-scale image
recognition".
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn

from ..layers import BatchNorm, Conv, he_normal, relu, run_stage
from ..ops import max_pool
from .classifier import Classifier, pool_to_row
from .entry import Entry
from .perceptron import DenseLayers

WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five stages of 3x3 convolutions, each followed by max pooling.

    Attributes:
      stage_sizes: convolutions in each stage.
      norm: makes the normalization behind every convolution; None for none, as in the paper.
      checkpoint: the backward pass computes each stage again.

    Endpoints: `conv1_1` (after its ReLU), …, `pool1`, `conv2_1`, …, `pool5`, which is
    `[B, 7, 7, 512]` for images of 224x224 pixels. The head takes means of 7x7 bins of other sizes,
    as torchvision's does; timm's takes its dense layers over all 7x7 windows (as
    `to_fully_convolutional` makes them) and the mean of what they give, which is another answer.

    Reference: Simonyan, Zisserman 2015, table 1; batch norm as in torchvision. Differs: weights
    start at He's variance instead of those of a trained shallower network.
    """

    stage_sizes: tuple[int, ...]
    norm: Callable[..., nn.Module] | None = None
    checkpoint: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        x, endpoints = images, {}
        for stage in range(1, len(self.stage_sizes) + 1):
            endpoints |= run_stage(self, VGG._run_stage, x, stage=stage, train=train)
            x = endpoints[f"pool{stage}"]
        return endpoints

    def _run_stage(self, x, stage, train):
        endpoints = {}
        for number in range(1, self.stage_sizes[stage - 1] + 1):
            place = f"{stage}_{number}"
            init = he_normal("fan_out")
            x = Conv(WIDTHS[stage - 1], 3, kernel_init=init, name=f"conv{place}")(x)
            if self.norm is not None:
                x = self.norm(name=f"bn{place}")(x, train=train)
            x = endpoints[f"conv{place}"] = relu(x)
        return {**endpoints, f"pool{stage}": max_pool(x, 2)}


def entry(stage_sizes: tuple[int, ...]) -> Entry:
    """A VGG with its two hidden dense layers, dropout behind both."""
    return Entry(
        partial(VGG, stage_sizes=stage_sizes),
        classifier=partial(
            Classifier, hidden=partial(DenseLayers, features=(4096, 4096), dropout_behind=0.5)
        ),
        defaults={"pool": partial(pool_to_row, side=7)},
    )


def with_batch_norm(plain: Entry) -> Entry:
    """The same network with batch norm behind every convolution."""
    return plain._replace(defaults={**plain.defaults, "norm": BatchNorm})


PLAIN = {
    "vgg11": entry((1, 1, 2, 2, 2)),
    "vgg13": entry((2, 2, 2, 2, 2)),
    "vgg16": entry((2, 2, 3, 3, 3)),
    "vgg19": entry((2, 2, 4, 4, 4)),
}
MODELS = PLAIN | {f"{name}_bn": with_batch_norm(plain) for name, plain in PLAIN.items()}
