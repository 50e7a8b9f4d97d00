"""Variables of a model, drawn without compiling the program that would draw them."""

import jax
import jax.numpy as jnp
import numpy as np


def draw_variables(model, image_shape):
    """Random variables, with every parameter and statistic away from where it starts."""
    images = jnp.ones((1, *image_shape))
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    rng = np.random.default_rng(1)

    def fill(path, shape):
        noise = rng.standard_normal(shape.shape).astype(np.float32)
        if path[-1].key in ("scale", "var", "coefficient"):
            return np.abs(1 + 0.1 * noise)
        return noise * np.sqrt(2 / np.prod(shape.shape[:-1]), dtype=np.float32)

    return jax.tree.map_with_path(fill, shapes)
