import jax
import numpy as np
import pytest

from convnets.benchmark.torch_network import build_network

from .peers import NETWORKS, ours


@pytest.mark.parametrize(("name", "image_shape"), NETWORKS)
def test_it_is_the_same_network(name, image_shape):
    torch = pytest.importorskip("torch")
    workload, variables, images, expected, trained = ours(name, image_shape)
    network = build_network(workload, variables).eval()
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert sum(value.numel() for value in network.parameters()) == count
    inputs = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    with torch.no_grad():
        logits = network(inputs)
        np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())
        if name != "alexnet":  # whose dropout draws other masks
            logits = network.train()(inputs)
            np.testing.assert_allclose(logits, trained, atol=1e-4 * np.abs(trained).max())
