"""What the endpoints of a backbone are, without running it."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

LARGER = 1280  # pixels: a multiple of the powers of 2 up to 256, and of 5 and 20


class Feature(NamedTuple):
    """One endpoint: its name, the pixels of the image from one of its pixels to the next (None if
    it is no image), and its channels."""

    name: str
    stride: int | None
    channels: int


def describe_endpoints(backbone: nn.Module, image_shape) -> tuple[Feature, ...]:
    """The endpoints of a backbone for images of shape `(H, W, C)`, in the order of computation.

    A stride is measured: by how much an endpoint grows with the image.

    >>> from convnets.models.lenet import LeNet5
    >>> describe_endpoints(LeNet5(), (28, 28, 1))[-1]
    Feature(name='s4', stride=4, channels=16)
    """
    height, width, channels = image_shape
    shapes = _endpoint_shapes(backbone, (height, width, channels))
    larger = _endpoint_shapes(backbone, (height + LARGER, width + LARGER, channels))
    return tuple(
        Feature(
            name,
            round(LARGER / (larger[name][1] - shape[1])) if len(shape) == 4 else None,
            shape[-1],
        )
        for name, shape in shapes.items()
    )


def _endpoint_shapes(backbone, image_shape) -> dict[str, tuple[int, ...]]:
    names = []  # a dict that passes through JAX comes back in alphabetical order

    def run(key, images):
        endpoints, _ = backbone.init_with_output(key, images, train=False)
        names[:] = endpoints
        return list(endpoints.values())

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    endpoints = jax.eval_shape(run, jax.random.key(0), images)
    return {name: endpoint.shape for name, endpoint in zip(names, endpoints)}
