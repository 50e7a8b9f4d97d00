"""Our networks as plain lists of layers, from which other libraries' networks are built."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from ..errors import UserError
from ..models import (
    MLP,
    AlexNet,
    ClassicLeNet,
    LeNet5,
    Pixels,
    PlainBlock,
    ResNet,
    create_backbone,
    deep_stem,
    list_models,
)
from .workloads import Workload, variable_shapes


class Layer(NamedTuple):
    """One layer: its kind, the path of our parameters for it, and how it is set."""

    kind: str
    path: str = ""
    settings: Mapping = MappingProxyType({})


def describe_network(workload: Workload) -> list[Layer]:
    """The layers from images to logits, in their order.

    Kinds, with their settings: `conv` (stride, padding), `partial_conv` (connections, channels in),
    `norm`, `dense` (flattened: the channels of the image `[H, W, C]` that it sees in a row, or
    None), `subsample`, `max_pool` (window, stride, padding), `bins` (size; their means), `mean`
    over all pixels, `flatten`, `dropout` (rate), `relu`, `scaled_tanh`, `residual` (body and
    shortcut, two lists of layers, whose results are added), `pad` (stride, features: every
    stride-th pixel, and channels of zeros at the end).

    Raises: UserError for a model of which there is no such list, with those of which there is.

    >>> [layer.kind for layer in describe_network(Workload("linear", 1, (28, 28, 1)))]
    ['flatten', 'dense']
    """
    backbone = create_backbone(workload.model)
    if not has_peer(backbone):
        names = [name for name in list_models() if has_peer(create_backbone(name))]
        raise UserError(f"{workload.model} has no peer; there are peers of {', '.join(names)}")
    return list(FAMILIES[type(backbone)](backbone, workload))


def has_peer(backbone) -> bool:
    """Whether there is a list of layers for a backbone: not for groups, attention, deep stems."""
    if not isinstance(backbone, ResNet):
        return type(backbone) in FAMILIES
    options = backbone.block.keywords if isinstance(backbone.block, partial) else {}
    return backbone.stem is not deep_stem and options.keys().isdisjoint({"attention", "groups"})


def _linear(backbone, workload):
    yield Layer("flatten")
    yield _dense("head", workload.image_shape[2])


def _mlp(backbone: MLP, workload):
    yield Layer("flatten")
    channels = workload.image_shape[2]
    for number in range(1, len(backbone.features) + 1):
        yield _dense(f"backbone/dense{number}", channels)
        yield Layer("relu")
        channels = None
    yield _dense("head")


def _lenet5(backbone: LeNet5, workload):
    yield _conv("backbone/conv1", padding=2)
    yield Layer("relu")
    yield _max_pool(2, 2)
    yield _conv("backbone/conv2")
    yield Layer("relu")
    yield _max_pool(2, 2)
    yield Layer("flatten")
    yield _dense("hidden/dense1", 16)
    yield Layer("relu")
    yield _dense("hidden/dense2")
    yield Layer("relu")
    yield _dense("head")


def _classic_lenet(backbone: ClassicLeNet, workload):
    connections = backbone.connections
    yield _conv("backbone/conv1", padding=backbone.padding)
    yield Layer("scaled_tanh")
    yield Layer("subsample", "backbone/subsampling1")
    yield Layer("scaled_tanh")
    yield Layer(
        "partial_conv", "backbone/conv2", {"connections": connections, "channels": backbone.maps}
    )
    yield Layer("scaled_tanh")
    yield Layer("subsample", "backbone/subsampling2")
    yield Layer("scaled_tanh")
    yield Layer("flatten")
    channels = len(connections)
    for number in range(1, len(variable_shapes(workload)["params"].get("hidden", ())) + 1):
        yield _dense(f"hidden/dense{number}", channels)
        yield Layer("scaled_tanh")
        channels = None
    yield _dense("head", channels)


def _alexnet(backbone: AlexNet, workload):
    number = 0
    for widths in backbone.stages:
        for _ in widths:
            number += 1
            stride, padding = (4, 2) if number == 1 else (1, 2 if number == 2 else 1)
            yield _conv(f"backbone/conv{number}", stride=stride, padding=padding)
            yield Layer("relu")
        yield _max_pool(3, 2)
    yield Layer("bins", settings={"size": 6})
    yield Layer("flatten")
    for number, channels in ((1, backbone.stages[-1][-1]), (2, None)):
        yield Layer("dropout", settings={"rate": 0.5})
        yield _dense(f"hidden/dense{number}", channels)
        yield Layer("relu")
    yield _dense("head")


def _resnet(backbone: ResNet, workload):
    params = variable_shapes(workload)["params"]["backbone"]
    if params["conv1"]["kernel"].shape[0] == 7:  # for ImageNet
        yield _conv("backbone/conv1", stride=2, padding=3)
        yield from (Layer("norm", "backbone/bn1"), Layer("relu"), _max_pool(3, 2, 1))
    else:
        yield _conv("backbone/conv1", padding=1)
        yield from (Layer("norm", "backbone/bn1"), Layer("relu"))
    for stage, blocks in enumerate(backbone.stage_sizes, 1):
        for number in range(1, blocks + 1):
            name = f"stage{stage}_block{number}"
            stride = 2 if stage > 1 and number == 1 else 1
            body, shortcut = _block(f"backbone/{name}", params[name], stride)
            if backbone.block is PlainBlock:
                yield from body
            else:
                yield Layer("residual", settings={"body": body, "shortcut": shortcut})
            yield Layer("relu")
    yield Layer("mean")
    yield _dense("head")


def _block(path: str, params: dict, stride: int) -> tuple[list[Layer], list[Layer]]:
    """Body, without its last ReLU, and shortcut; the stride sits on the first 3x3."""
    body = []
    first = "conv1" if "conv3" not in params else "conv2"
    for name in ("conv1", "conv2", "conv3"):
        if name in params:
            here = stride if name == first else 1
            padding = params[name]["kernel"].shape[0] // 2
            body.append(_conv(f"{path}/{name}", stride=here, padding=padding))
            body.append(Layer("norm", f"{path}/bn{name[-1]}"))
            body.append(Layer("relu"))
    shortcut = []
    if "conv_shortcut" in params:
        shortcut.append(_conv(f"{path}/conv_shortcut", stride=stride))
        shortcut.append(Layer("norm", f"{path}/bn_shortcut"))
    elif stride > 1:
        features = params["conv2"]["kernel"].shape[3]
        shortcut.append(Layer("pad", settings={"stride": stride, "features": features}))
    return body[:-1], shortcut


def _conv(path, *, stride=1, padding=0) -> Layer:
    return Layer("conv", path, {"stride": stride, "padding": padding})


def _dense(path, flattened=None) -> Layer:
    return Layer("dense", path, {"flattened": flattened})


def _max_pool(window, stride, padding=0) -> Layer:
    return Layer("max_pool", settings={"window": window, "stride": stride, "padding": padding})


FAMILIES = {
    Pixels: _linear,
    MLP: _mlp,
    LeNet5: _lenet5,
    ClassicLeNet: _classic_lenet,
    AlexNet: _alexnet,
    ResNet: _resnet,
}
