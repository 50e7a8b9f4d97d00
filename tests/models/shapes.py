"""What a backbone gives, as shapes."""

import jax
import jax.numpy as jnp

from convnets.models import create_backbone, default_image_shape


def endpoint_sizes(name, image_shape=None, **options):
    """Endpoint -> `(H, W, C)`, in the order of computation."""
    backbone = create_backbone(name, **options)
    names = []

    def run(images):
        endpoints, _ = backbone.init_with_output(jax.random.key(0), images, train=False)
        names[:] = endpoints
        return endpoints

    images = jax.ShapeDtypeStruct((1, *(image_shape or default_image_shape(name))), jnp.float32)
    shapes = jax.eval_shape(run, images)
    return {name: shapes[name].shape[1:] for name in names}
