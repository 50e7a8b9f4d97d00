import jax
import numpy as np

from convnets.models import ConvNeXtBlock, create_backbone

from .shapes import endpoint_sizes


def test_sizes():
    assert endpoint_sizes("convnext_tiny") == {
        "stem": (56, 56, 96),
        "stage1": (56, 56, 96),
        "stage2": (28, 28, 192),
        "stage3": (14, 14, 384),
        "stage4": (7, 7, 768),
    }
    assert create_backbone("convnext_small").drop_path == 0.4


def test_block_starts_near_the_identity_and_equals_its_parts():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 6, 6, 4)).astype(np.float32)
    block = ConvNeXtBlock()
    y, variables = block.init_with_output(jax.random.key(0), x, train=False)
    np.testing.assert_allclose(y, x, atol=1e-4)
    params = jax.tree.map(lambda p: rng.standard_normal(p.shape).astype(np.float32), variables)[
        "params"
    ]
    padded = np.pad(x.astype(float), ((0, 0), (3, 3), (3, 3), (0, 0)))
    kernel = params["depthwise"]["kernel"][:, :, 0]
    y = sum(padded[:, i : i + 6, j : j + 6] * kernel[i, j] for i in range(7) for j in range(7))
    y = y + params["depthwise"]["bias"]
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
    y = y * params["norm"]["scale"] + params["norm"]["bias"]
    y = y @ params["expand"]["kernel"] + params["expand"]["bias"]
    y = np.asarray(jax.nn.gelu(y, approximate=False), float)
    y = (y @ params["project"]["kernel"] + params["project"]["bias"]) * params["layer_scale"]
    out = block.apply({"params": params}, x, train=False)
    np.testing.assert_allclose(out, x + y, rtol=1e-3, atol=1e-3)
