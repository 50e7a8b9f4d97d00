from convnets.models import create_model
from convnets.summary import summarize

from .shapes import endpoint_sizes


def test_sizes_of_configuration_d():
    sizes = endpoint_sizes("vgg16")
    assert list(sizes)[:6] == ["conv1_1", "conv1_2", "pool1", "conv2_1", "conv2_2", "pool2"]
    assert len(sizes) == 13 + 5
    pools = [sizes[f"pool{stage}"] for stage in range(1, 6)]
    assert pools == [(112, 112, 64), (56, 56, 128), (28, 28, 256), (14, 14, 512), (7, 7, 512)]


def test_multiply_adds_are_those_of_the_16_layers():
    summary = summarize(create_model("vgg16"), (224, 224, 3))
    convolutions = 9 * sum(
        side**2 * before * after
        for side, before, after in (
            *((224, 3, 64), (224, 64, 64), (112, 64, 128), (112, 128, 128), (56, 128, 256)),
            *((56, 256, 256), (56, 256, 256), (28, 256, 512), (28, 512, 512), (28, 512, 512)),
            *((14, 512, 512),) * 3,
        )
    )
    assert summary.multiply_adds == convolutions + 25_088 * 4096 + 4096**2 + 4096 * 1000


def test_batch_norm_stands_behind_every_convolution():
    layers = summarize(create_model("vgg11_bn"), (224, 224, 3)).layers
    types = [layer.type for layer in layers if layer.path.startswith("backbone/")]
    assert types == ["Conv", "BatchNorm"] * 8
    dropped = [layer.path for layer in layers if layer.type == "Dropout"]
    assert dropped == ["hidden/dropout_behind1", "hidden/dropout_behind2"]
