"""AlexNet in one tower and in two, and a family of its kind in ten sizes."""

from functools import partial

import flax.linen as nn

from ..layers import Conv, constant, he_normal, normal, relu, run_stage
from ..ops import local_response_normalization, max_pool
from .classifier import Classifier, pool_to_row
from .entry import Entry
from .perceptron import DenseLayers


class AlexNet(nn.Module):
    """Convolutions in stages, each stage pooled at its end: in AlexNet five in three stages.

    Attributes:
      stages: the channels of each stage's convolutions. The first convolution of all has a kernel
        of 11x11 and stride 4, the second of 5x5, all others of 3x3.
      checkpoint: the backward pass computes each stage again (see `layers.run_stage`).

    Endpoints: `conv1`, `pool1`, `conv2`, `pool2`, `conv3`, `conv4`, `conv5`, `pool5`, convolutions
    after their ReLU; `pool5` is `[B, 6, 6, 256]` for images of 224x224 pixels, and images have at
    least 63x63. With other stages, `convN` in order, and `poolN` behind the last of each stage.

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

    stages: tuple[tuple[int, ...], ...] = ((64,), (192,), (384, 256, 256))
    checkpoint: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        x, first, endpoints = images, 1, {}
        for widths in self.stages:
            last = first + len(widths) - 1
            outputs = run_stage(self, AlexNet._run_stage, x, first=first, widths=widths)
            names = [f"conv{number}" for number in range(first, last + 1)] + [f"pool{last}"]
            endpoints |= zip(names, outputs)
            x, first = outputs[-1], last + 1
        return endpoints

    def _run_stage(self, x, first, widths):
        conv, outputs = partial(Conv, kernel_init=he_normal()), []
        for number, features in enumerate(widths, first):
            if number == 1:
                layer = conv(features, 11, 4, padding=2, name="conv1")
            else:
                layer = conv(features, 5 if number == 2 else 3, name=f"conv{number}")
            x = relu(layer(x))
            outputs.append(x)
        return (*outputs, max_pool(x, 3, 2))


class TwoTowerAlexNet(nn.Module):
    """The network of 2012: half of the maps on each of two GPUs, which meet in `conv3` only.

    Endpoints: `conv1`, `norm1`, `pool1`, `conv2`, `norm2`, `pool2`, `conv3`, `conv4`, `conv5`,
    `pool5`, convolutions after their ReLU, `[B, 55, 55, 96]` to `[B, 6, 6, 256]` for images of
    224x224 pixels. The first half of the channels is one tower, the second the other.

    Reference: Krizhevsky, Sutskever, Hinton 2012, section 3.3 (normalization, over neighbors among
    all maps of a layer, behind `conv1` and `conv2`, before pooling), 3.4 (pooling 3, stride 2), 3.5
    and figure 2 (sizes), 4.2 (dropout in both hidden layers), 5 (weights at a deviation of 0.01,
    biases at one in `conv2`, `conv4`, `conv5` and the hidden layers, else at zero). With a head of
    1000 classes 60,965,224 parameters; "60 million" in section 3.5. The units are 659,272; the
    paper counts 253,440 in the first layer (55x55x96 are 290,400) and calls the sum 650,000.

    Differs: kernels of 11x11 with stride 4 do not make 55x55 of the 224x224 that the paper says,
    but of 227x227; here 224x224 is padded by 2 pixels, of which the last row and column are not
    reached. The head starts at `Dense`'s own deviation, 1/64, not 0.01.

    >>> images = jax.ShapeDtypeStruct((1, 224, 224, 3), "float32")
    >>> run = partial(TwoTowerAlexNet().init_with_output, train=False)
    >>> jax.eval_shape(run, jax.random.key(0), images)[0]["conv2"].shape
    (1, 27, 27, 256)
    """

    checkpoint: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        conv = partial(Conv, kernel_init=normal(0.01))
        in_towers = partial(conv, groups=2, bias_init=constant(1.0))
        pool = partial(max_pool, window=3, stride=2)

        def stage1(_, x):
            x = relu(conv(96, 11, 4, padding=2, name="conv1")(x))
            y = local_response_normalization(x)
            return x, y, pool(y)

        def stage2(_, x):
            x = relu(in_towers(256, 5, name="conv2")(x))
            y = local_response_normalization(x)
            return x, y, pool(y)

        def stage3(_, x):
            conv3 = relu(conv(384, 3, name="conv3")(x))
            conv4 = relu(in_towers(384, 3, name="conv4")(conv3))
            conv5 = relu(in_towers(256, 3, name="conv5")(conv4))
            return conv3, conv4, conv5, pool(conv5)

        endpoints = dict(zip(("conv1", "norm1", "pool1"), run_stage(self, stage1, images)))
        x = endpoints["pool1"]
        endpoints |= zip(("conv2", "norm2", "pool2"), run_stage(self, stage2, x))
        x = endpoints["pool2"]
        endpoints |= zip(("conv3", "conv4", "conv5", "pool5"), run_stage(self, stage3, x))
        return endpoints


def _of_size(stages, hidden=(4096, 4096)) -> Entry:
    """AlexNet with other stages and hidden layers: made for the networks A to J, which ask whether
    more layers or more filters make a better representation.

    Reference: Azizpour, Sharif Razavian, Sullivan, Maki, Carlsson 2015, "Factors of transferability
    for a generic ConvNet representation", and Azizpour's lecture of that year. The lecture's chart
    has A, C, E, F in one series and B, D, G, H, I, J in the other, eight layers and more than eight
    as we read it, between 20 and 140 million parameters, in the order A B D G C E H I J F.
    Differs: the chart has no sizes and the paper's table was not at hand, so all widths and depths
    are ours, made to give that order. A, C, E are about 1/4, 1/2 and 1 times as wide as the
    network of 2012, and F has the widths of OverFeat's fast model (Sermanet et al. 2014, table 1);
    B, D, G are A, and H, I, J are E, with 11, 13 and 16 layers, by more convolutions of 3x3 in the
    second and third stage. All are AlexNet in one tower otherwise.
    """
    layers = partial(DenseLayers, features=hidden, dropout=0.5)
    return Entry(
        partial(AlexNet, stages=stages),
        classifier=partial(Classifier, hidden=layers),
        defaults={"pool": partial(pool_to_row, side=6)},
    )


MODELS = {
    "alexnet": _of_size(((64,), (192,), (384, 256, 256))),
    "alexnet_two_tower": Entry(
        TwoTowerAlexNet,
        classifier=partial(
            Classifier,
            hidden=partial(
                DenseLayers,
                features=(4096, 4096),
                kernel_init=normal(0.01),
                bias_init=constant(1.0),
                dropout_behind=0.5,
            ),
        ),
        defaults={"pool": partial(pool_to_row, side=6)},
    ),
    "alexnet_a": _of_size(((24,), (48,), (96, 96, 64)), (4096, 1024)),
    "alexnet_b": _of_size(((24,), (48,) * 2, (96,) * 4 + (64,)), (4096, 1024)),
    "alexnet_c": _of_size(((48,), (128,), (192, 192, 128)), (4096, 2048)),
    "alexnet_d": _of_size(((24,), (48,) * 3, (96,) * 5 + (64,)), (4096, 1024)),
    "alexnet_e": _of_size(((96,), (256,), (384, 384, 256))),
    "alexnet_f": _of_size(((96,), (256,), (512, 1024, 1024)), (3072, 4096)),
    "alexnet_g": _of_size(((24,), (48,) * 4, (96,) * 7 + (64,)), (4096, 1024)),
    "alexnet_h": _of_size(((96,), (256,) * 2, (384,) * 4 + (256,))),
    "alexnet_i": _of_size(((96,), (256,) * 3, (384,) * 5 + (256,))),
    "alexnet_j": _of_size(((96,), (256,) * 4, (384,) * 7 + (256,))),
}
