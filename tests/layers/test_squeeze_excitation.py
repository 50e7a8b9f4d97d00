import jax
import numpy as np

from convnets.layers import SqueezeExcitation, hard_sigmoid, silu


def test_equals_loops():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 5, 4)).astype(np.float32)
    layer = SqueezeExcitation(3, activation=silu, gate=hard_sigmoid)
    params = layer.init(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda p: rng.standard_normal(p.shape).astype(np.float32), params)
    expected = np.zeros(x.shape)
    for b in range(2):
        mean = [sum(x[b, i, j, c] for i in range(3) for j in range(5)) / 15 for c in range(4)]
        inner = np.dot(mean, params["reduce"]["kernel"]) + params["reduce"]["bias"]
        inner = inner / (1 + np.exp(-inner))
        gate = np.dot(inner, params["expand"]["kernel"]) + params["expand"]["bias"]
        expected[b] = x[b] * np.minimum(np.maximum(gate + 3, 0), 6) / 6
    y = layer.apply({"params": params}, x)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
