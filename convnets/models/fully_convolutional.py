"""A classifier as a convolution: logits at every place of an image that is larger."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeParamShapeError

from ..errors import UserError
from ..layers import Dense
from ..layers.initializers import Initializer
from ..ops import adaptive_average_pool, average_pool, convolve_windows, l2_pool, max_pool
from .classifier import POOLS, Classifier, flatten, pool_named, pool_to_row
from .registry import default_image_shape
from .squeezenet import PixelClassifier
from .tracing import trace

Pair = tuple[int, int]


def to_fully_convolutional(model: Classifier, variables, image_shape=None):
    """The same network for images of any larger size: a dense layer is a convolution.

    A dense layer over a map of h times w pixels is a convolution with a kernel of h times w, and
    one over the channels of a pixel a convolution of 1x1. The pool becomes a window of the size
    that the map has for `image_shape`, at stride 1: means, maxima and root mean squares are taken
    there, and where all of it makes a row (`flatten`, `pool_to_row`), the first dense layer gets
    the window for its kernel. Larger images then give a map of logits, one for each place of the
    window, all from one pass of the backbone, in place of one pass for every crop.

    For an image of `image_shape` the map has one pixel, the classifier's logits. For larger ones
    the pixel (i, j) is the head applied to the window at (i, j) of the backbone's last endpoint.
    In a network without padding that is the classifier's answer to the crop at (i, j) times the
    stride of the backbone. In a network with padding it is so only up to the padding: at the
    borders of a crop the classifier sees zeros where the map sees the image around it.

    Args:
      model: a `Classifier`, not folded; its backbone ends in an image, and `hidden` consists of
        `Dense` layers and of what treats every pixel alike, as `DenseLayers` does.
      variables: `{"params": …, "batch_stats": …}`, of `TrainState.variables()` for one, or the
        parameters alone, of which parameters alone come back.
      image_shape: `(H, W, C)` that the model was trained with; None for the default of a model that
        was made by its name alone.

    Returns: a model called `(images, *, train)`, `[B, H, W, C] -> [B, H', W', num_classes]`, and
    its variables: the same arrays at the same paths, the kernels of the dense layers reshaped. It
    raises UserError for images in which the window does not fit.

    Raises: UserError for what is not such a model, a pool that has no window, or an `image_shape`
      that is missing or does not fit the parameters.

    Reference: LeCun, Bottou, Bengio, Haffner 1998, section VII (space displacement networks);
    Sermanet et al. 2014, "OverFeat", section 3.5.

    >>> from convnets.models import create_model
    >>> model, images = create_model("lenet1"), jnp.ones((1, 60, 44, 1))
    >>> variables = model.init(jax.random.key(0), images[:, :28, :28], train=False)
    >>> model, variables = to_fully_convolutional(model, variables)
    >>> model.apply(variables, images, train=False).shape
    (1, 9, 5, 10)
    """
    if "params" not in variables:
        model, variables = to_fully_convolutional(model, {"params": variables}, image_shape)
        return model, variables["params"]
    if not isinstance(model, Classifier):
        raise UserError(f"expected a Classifier, came {type(model).__name__}")
    if image_shape is None:
        if model.registry_name is None:
            raise UserError("image_shape is needed: the (H, W, C) that the model was trained with")
        image_shape = default_image_shape(model.registry_name)
    size, paths = _measure(model, variables, image_shape)
    kind, side = _kind_of(model.pool)
    in_row = kind == "row"
    if in_row and isinstance(model, PixelClassifier):
        raise UserError(f"the pool {model.pool!r} comes behind the head here: pool otherwise")
    if in_row and not paths:
        raise UserError("a row of pixels without a dense layer behind it is no map: pool otherwise")
    kernels = tuple((path, size if in_row and path == paths[0] else (1, 1)) for path in paths)
    params = variables["params"]
    for path, window in kernels:
        bins = side if in_row and path == paths[0] else window
        params = _replace_kernel(params, path.split("/"), partial(_reshape, bins=bins, size=window))
    pool = _keep if in_row else partial(WINDOWS[kind], size=size)
    model = FullyConvolutional(model.clone(pool=pool), kernels)
    return model, {**variables, "params": params}


class FullyConvolutional(nn.Module):
    """A classifier whose pool keeps places apart and whose dense layers are convolutions.

    Attributes:
      classifier: with a pool that gives a map, `[B, H, W, C] -> [B, H', W', C']`.
      kernels: the paths of the dense layers, and the height and width of their kernels.

    Its parameters have the paths that they have in `classifier`.
    """

    classifier: Classifier
    kernels: tuple[tuple[str, Pair], ...]

    def __call__(self, images, *, train: bool):
        return self._run("__call__", images, train)

    def endpoints(self, images, *, train: bool) -> dict:
        return self._run("endpoints", images, train)

    def _run(self, method, images, train):
        sizes, above = dict(self.kernels), len(self.path)

        def replace(next_function, args, kwargs, context):
            layer, path = context.module, "/".join(context.module.path[above:])
            if context.method_name != "__call__" or not isinstance(layer, Dense):
                return next_function(*args, **kwargs)
            if path not in sizes:
                return next_function(*args, **kwargs)
            fields = (layer.use_bias, layer.kernel_init, layer.bias_init)
            return WindowDense(layer.features, sizes[path], *fields, parent=layer.scope)(*args)

        model = self.classifier.copy(parent=self.scope)  # in this scope itself, not in one below it
        with nn.intercept_methods(replace):
            return getattr(model, method)(images, train=train)


class WindowDense(nn.Module):
    """A dense layer over every window of a map, which is a convolution without padding.

    Parameters: `kernel [h, w, C, features]`, `bias [features]`.
    """

    features: int
    size: Pair
    use_bias: bool
    kernel_init: Initializer
    bias_init: Initializer

    @nn.compact
    def __call__(self, x):  # [B, H, W, C] -> [B, H - h + 1, W - w + 1, features]
        shape = (*self.size, x.shape[3], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        x = convolve_windows(x, kernel.astype(x.dtype))
        if not self.use_bias:
            return x
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
        return x + bias.astype(x.dtype).reshape(1, 1, 1, -1)


def _l2(x, size):
    return l2_pool(x, size, 1)


def _average(x, size):
    return average_pool(x, size, 1)


def _max(x, size):
    return max_pool(x, size, 1)


def _both(x, size):
    return jnp.concatenate([_average(x, size), _max(x, size)], 3)


def _keep(x):
    return x


# The pools of `POOLS` over windows of one size in place of all pixels.
WINDOWS = {"average": _average, "max": _max, "both": _both, "l2": _l2}


def _kind_of(pool: str | Callable) -> tuple[str, int | None]:
    """`row` or a name in `WINDOWS`; for a row the number of its bins a side, None for pixels."""
    function = pool_named(pool)
    if function is flatten:
        return "row", None
    if isinstance(function, partial) and function.func is pool_to_row and not function.args:
        return "row", function.keywords["side"]
    for name in WINDOWS:
        if function is POOLS[name]:
            return name, None
    raise UserError(f"the pool {pool!r} has no window; known: {sorted(POOLS)} and pool_to_row")


def _measure(model, variables, image_shape) -> tuple[Pair, list[str]]:
    """Height and width of what is pooled, and the paths of the dense layers behind, in order."""
    sizes = []

    def measure(x):
        sizes.append(x.shape[1:3])
        return pool_named(model.pool)(x)

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    measured = model.clone(pool=measure)
    try:
        calls, _ = trace(
            lambda variables, images: measured.apply(variables, images, train=False),
            variables,
            images,
        )
    except ScopeParamShapeError as error:
        raise UserError(
            f"the parameters do not fit images of {image_shape}; image_shape is the (H, W, C) that "
            f"the model was trained with: {error}"
        ) from error
    if not sizes:
        raise UserError("the backbone ends in a row of values, which has no places")
    paths = [
        path
        for path, (module, _) in calls.items()
        if isinstance(module, Dense) and path.split("/")[0] in ("hidden", "head")
    ]
    return sizes[0], paths


def _replace_kernel(params, path, function):
    """The tree with `function` applied to the kernel of the layer at a path."""
    if not path:
        return {**params, "kernel": function(params["kernel"])}
    return {**params, path[0]: _replace_kernel(params[path[0]], path[1:], function)}


def _reshape(kernel, bins, size):
    """A dense kernel `[bins * bins * C, features]` as `[h, w, C, features]`, for windows of `size`.

    Each bin is the mean of some of the window's pixels, so that each pixel's kernel is the sum of
    its bins' kernels, times its share of each. Bins may be a pair, or None for a bin a pixel.
    """
    rows, columns = (bins, bins) if isinstance(bins, int) else bins or size
    kernel = kernel.reshape(rows, columns, -1, kernel.shape[1])
    if (rows, columns) == size:
        return kernel
    shares = [_shares(pixels, n) for pixels, n in zip(size, (rows, columns))]
    return jnp.einsum("ih,jw,ijcf->hwcf", *shares, kernel)


def _shares(pixels: int, bins: int):
    """The share `[bins, pixels]` that each pixel has in the mean of each bin."""
    pixel = jnp.asarray(np.eye(pixels, dtype=np.float32))[:, :, None, None]  # one an image
    return adaptive_average_pool(pixel, (bins, 1))[:, :, 0, 0].T
