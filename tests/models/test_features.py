import flax.linen as nn
import pytest

from convnets.layers import Conv
from convnets.models import Feature, describe_endpoints, feature_info


class Zigzag(nn.Module):
    """Endpoints out of alphabetical order, one of them no image."""

    @nn.compact
    def __call__(self, images, *, train):
        z = Conv(4, 3, stride=(2, 2), padding=0, name="conv1")(images)
        a = Conv(6, 5, stride=4, padding=0, name="conv2")(z)
        return {"z": z, "a": a, "b": a.mean((1, 2))}


def test_order_strides_and_channels():
    assert describe_endpoints(Zigzag(), (30, 25, 1)) == (
        Feature("z", 2, 4),
        Feature("a", 8, 6),
        Feature("b", None, 6),
    )


@pytest.mark.parametrize(
    ("name", "strides", "channels"),
    [
        ("resnet50", [2, 4, 8, 16, 32], [64, 256, 512, 1024, 2048]),
        ("plain18", [2, 4, 8, 16, 32], [64, 64, 128, 256, 512]),
        ("cifar_resnet20", [1, 1, 2, 4], [16, 16, 32, 64]),
        ("lenet5", [1, 2, 2, 4], [6, 6, 16, 16]),
        ("jarrett2_max", [5, 20], [64, 256]),
        ("mlp", [None, None], [784, 800]),
    ],
)
def test_feature_info_of_models(name, strides, channels):
    features = feature_info(name)
    assert [feature.stride for feature in features] == strides
    assert [feature.channels for feature in features] == channels
