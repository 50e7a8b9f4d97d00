import jax
import jax.numpy as jnp
import numpy as np

from convnets.models import create_model


def test_mlp_is_matrix_products_and_activations():
    model = create_model("mlp", num_classes=3, features=(7, 5), activation=jnp.tanh)
    images = np.random.default_rng(0).standard_normal((2, 4, 3, 2)).astype(np.float32)
    variables = model.init(jax.random.key(0), jnp.asarray(images), train=False)
    params = jax.tree.map(lambda p: np.asarray(p, float) + 0.1, variables["params"])
    logits = model.apply(
        {"params": jax.tree.map(jnp.float32, params)}, jnp.asarray(images), train=False
    )
    x = images.reshape(2, -1).astype(float)
    for layer in (params["backbone"]["dense1"], params["backbone"]["dense2"]):
        x = np.tanh(x @ layer["kernel"] + layer["bias"])
    expected = x @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_linear_is_one_matrix_product():
    model = create_model("linear")
    images = np.random.default_rng(0).standard_normal((2, 3, 3, 2)).astype(np.float32)
    variables = model.init(jax.random.key(0), jnp.asarray(images), train=False)
    assert set(variables["params"]) == {"head"}
    head = variables["params"]["head"]
    expected = images.reshape(2, -1) @ np.asarray(head["kernel"])
    logits = model.apply(variables, jnp.asarray(images), train=False)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
