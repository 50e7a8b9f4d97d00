import jax
import jax.numpy as jnp
import numpy as np

from convnets.layers import BatchNorm
from convnets.models import create_model, pooled_projection
from convnets.models.resnet import ConvBeforeNorm
from convnets.summary import summarize

from .shapes import endpoint_sizes


def test_widths_of_groups():
    """32 groups of 4, 8, 16, 32 channels; the stages are as wide as those of ResNet-50."""
    assert endpoint_sizes("resnext50_32x4d") == endpoint_sizes("resnet50")
    for name, widths in (
        ("resnext50_32x4d", [128, 256, 512, 1024]),
        ("resnext101_64x4d", [256, 512, 1024, 2048]),
        ("wide_resnet50_2", [128, 256, 512, 1024]),
    ):
        model = create_model(name)
        images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
        run = lambda x: model.init(jax.random.key(0), x, train=False)  # noqa: B023, E731
        backbone = jax.eval_shape(run, images)["params"]["backbone"]
        kernels = [backbone[f"stage{n}_block1"]["conv2"]["kernel"].shape for n in (1, 2, 3, 4)]
        assert [shape[3] for shape in kernels] == widths
        groups = {"resnext50_32x4d": 32, "resnext101_64x4d": 64, "wide_resnet50_2": 1}[name]
        assert [shape[2] for shape in kernels] == [width // groups for width in widths]


def test_deep_stem_and_attention_cost_what_they_should():
    layers = {x.path: x for x in summarize(create_model("resnet50d"), (224, 224, 3)).layers}
    stem = [layers[f"backbone/{name}"] for name in ("stem_conv1", "stem_conv2", "conv1")]
    assert [layer.output_shape for layer in stem] == [
        (112, 112, 32),
        (112, 112, 32),
        (112, 112, 64),
    ]
    assert [layer.parameters for layer in stem] == [27 * 32, 9 * 32 * 32, 9 * 32 * 64]
    layers = {x.path: x for x in summarize(create_model("seresnet18"), (224, 224, 3)).layers}
    place = "backbone/stage1_block1/attention/squeeze_excitation"
    assert layers[f"{place}/reduce"].parameters == 64 * 8 + 8  # never fewer than 8
    place = "backbone/stage4_block1/attention/squeeze_excitation"
    assert layers[f"{place}/reduce"].parameters == 512 * 32 + 32


def test_pooled_shortcut_averages_what_is_there():
    """An odd side: the last window has one pixel of the image, and its mean is that pixel's."""
    import flax.linen as nn

    class Shortcut(nn.Module):
        @nn.compact
        def __call__(self, x):
            return pooled_projection(x, 1, 2, conv=ConvBeforeNorm, norm=BatchNorm, train=False)

    x = np.arange(1.0, 4.0, dtype=np.float32).reshape(1, 1, 3, 1)
    variables = Shortcut().init(jax.random.key(0), x)
    variables["params"]["conv_shortcut"]["kernel"] = jnp.ones((1, 1, 1, 1))
    y = Shortcut().apply(variables, x)
    np.testing.assert_allclose(y.ravel(), [1.5, 3.0], rtol=1e-4)
