"""Deconvolutional networks: images as sums of filters at the places that sparse maps say.

Layer 1 has maps `z1` whose transposed convolution by its filters is the image. Layer 2 has maps
whose transposed convolution is `z1` after pooling; pooling keeps switches, by which the way down to
the image is linear: `R2 = R1 unpool F2`, `R1 = F1`. Maps are inferred, not computed by an encoder.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from .. import losses, metrics, ops
from ..errors import UserError
from ..layers.initializers import normal
from ..ops import image
from .convolutional_coding import infer_maps
from .reconstruction import unexplained
from .requirements import require_layers, require_weights
from .sparse_coding import at_length_one


class DeconvolutionalNetwork(nn.Module):
    """The filters of a deconvolutional network, and the images that maps stand for.

    Attributes:
      features: maps of each layer.
      kernel_size: of the filters, odd; maps have the size of what they explain.
      pool: height and width of the windows between layers.
      penalty: of the maps' absolute values, in their inference.
      inference: its steps in every layer.

    Called with images it returns `{"code": …, "reconstruction": …}` of the last layer.

    Parameters: `layer1/kernel [kernel H, kernel W, C, features[0]]`, `layer2/kernel [kernel H,
    kernel W, features[0], features[1]]`, ….

    Reference: Zeiler, Krishnan, Taylor, Fergus 2010, "Deconvolutional networks"; Zeiler, Taylor,
    Fergus 2011, "Adaptive deconvolutional networks for mid and high level feature learning",
    section 2. Differs: pooling is over space alone, not over pairs of maps too; filters have the
    length 1.

    >>> model, images = DeconvolutionalNetwork((4, 6), kernel_size=3), jnp.ones((2, 8, 8, 1))
    >>> found, _ = model.init_with_output(jax.random.key(0), images, train=False)
    >>> found["code"].shape, found["reconstruction"].shape
    ((2, 4, 4, 6), (2, 8, 8, 1))
    """

    features: tuple[int, ...]
    kernel_size: int = 7
    pool: int = 2
    penalty: float = 0.1
    inference: int = 20

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        require_layers(self.features)
        require_weights(penalty=self.penalty)
        if self.kernel_size % 2 == 0:
            raise UserError(f"filters have an odd size, not {self.kernel_size}")
        channels, params = images.shape[3], {}
        for number, features in enumerate(self.features, 1):
            shape = (self.kernel_size, self.kernel_size, channels, features)
            params[f"layer{number}"] = {"kernel": Filters(shape, name=f"layer{number}")()}
            channels = features
        maps, switches = self.infer(params, images, len(self.features))
        return {"code": maps, "reconstruction": self.reconstruct(params, maps, switches)}

    @nn.nowrap
    def reconstruct(self, params, maps, switches):
        """The images that maps stand for; linear in the maps.

        Args:
          maps: of the layer above as many poolings as there are switches.
          switches: `(switches, size)` of each pooling below, that of layer 1 first.
        """
        for number in range(len(switches) + 1, 0, -1):
            kernel = at_length_one(params[f"layer{number}"]["kernel"], (0, 1, 2))
            maps = ops.convolve_transposed(maps, kernel, padding=self.kernel_size // 2)
            if number > 1:
                maps = ops.unpool(maps, *switches[number - 2])
        return maps

    @nn.nowrap
    def infer(self, params, images, layer: int):
        """The maps of a layer, and the switches below: those of each layer are inferred in turn,
        pooled, and held for the next.

        Returns: `[B, H', W', features]`, and the switches for `reconstruct`.

        Raises: UserError for images whose sides pooling does not divide.
        """
        maps, switches, size = images, [], images.shape[1:3]
        for number in range(1, layer + 1):
            if number > 1:
                if size[0] % self.pool or size[1] % self.pool:
                    raise UserError(
                        f"maps of {size[0]}x{size[1]} do not divide into windows of {self.pool}"
                    )
                _, places = ops.max_pool_with_switches(jnp.abs(maps), self.pool)
                switches.append((places, size))
                size = places.shape[1:3]
            shape = (len(images), *size, self.features[number - 1])
            made = partial(self.reconstruct, params, switches=switches)
            maps = infer_maps(
                made, images, jnp.zeros(shape, images.dtype), self.penalty, steps=self.inference
            )
        return maps, switches


class Filters(nn.Module):
    """The filters of a layer."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self):
        return self.param("kernel", normal(1.0), self.shape, jnp.float32)


def deconvolution_loss(
    model: DeconvolutionalNetwork,
    layer: int,
    *,
    normalization: image.Normalization | None = None,
):
    """The loss function that trains the filters of one layer, those below held.

    `1/2 ‖R z - x‖² + penalty |z|` at the maps `z` that are inferred for the filters as they are,
    and held while the gradient is taken.

    Args:
      model: of as many layers, at least.
      layer: from 1.
      normalization: of the images, which are best contrast-normalized; None leaves them.

    Returns: as `reconstruction_loss`; metrics also `zeros`, the share of maps' values that are 0.

    Raises: UserError for a layer that is not there.

    Reference: Zeiler et al. 2011, equation 1 and section 2.3.

    >>> model = DeconvolutionalNetwork((1,), kernel_size=1, penalty=1.0)
    >>> params = {"layer1": {"kernel": jnp.full((1, 1, 1, 1), 5.0)}}  # at length 1
    >>> loss_fn = deconvolution_loss(model, 1)
    >>> loss_fn(params, {}, {"image": jnp.full((1, 1, 2, 1), 3.0)}, None)[0].round(3).item()
    5.0
    """
    if layer not in range(1, len(model.features) + 1):
        raise UserError(f"there are layers 1 to {len(model.features)}, not {layer}")

    def loss_fn(params, batch_stats, batch, key):
        mask, images = batch.get("mask"), image.prepare(batch["image"], normalization)
        name = f"layer{layer}"
        held = lax.stop_gradient(params)
        maps, switches = model.infer(held, images, layer)
        held = {**held, name: params[name]}
        made = model.reconstruct(held, maps, switches)
        values = losses.squared_error(made, images)
        values += model.penalty * jnp.abs(maps).sum((1, 2, 3))
        measured = {
            "loss": metrics.mean_metric(values, mask),
            "unexplained": unexplained(made, images, mask),
            "zeros": metrics.mean_metric((maps == 0).mean((1, 2, 3)), mask),
        }
        return losses.weighted_mean(values, mask), (batch_stats, measured)

    return loss_fn
