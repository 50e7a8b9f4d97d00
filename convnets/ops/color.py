"""The colors of an image `[H, W, C]`, floats in [0, 1]: adjusted, and changed at random."""

import itertools

import jax
import jax.numpy as jnp

from .convolution import require_floats
from .requirements import require_between, require_colors, require_not_negative

LUMA = (0.2989, 0.587, 0.114)  # what red, green and blue have in gray

# Of the covariance of ImageNet's pixels in [0, 1], one column an eigenvector.
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def to_gray(image):
    """The brightness of every pixel, `[H, W, 1]`: a weighted sum of three channels, or the one.

    Raises: UserError for another number of channels.

    >>> round(to_gray(jnp.array([[[0.0, 1.0, 0.0]]])).item(), 3)
    0.587
    """
    if image.shape[-1] == 1:
        return image
    require_colors("gray", image)
    return sum(share * image[..., i : i + 1] for i, share in enumerate(LUMA))


def blend(image, anchor, factor):
    """`factor image + (1 - factor) anchor`, clipped to [0, 1]: less of the anchor's opposite for
    factors below 1, and more for those above.

    Raises: TypeError for an image of integers.

    >>> blend(jnp.array([0.5, 0.9]), 0.0, 1.5).tolist()
    [0.75, 1.0]
    """
    require_floats(image, "blend")
    factor = jnp.asarray(factor, image.dtype)
    return jnp.clip(factor * image + (1 - factor) * anchor, 0, 1)


def anchors(image):
    """What brightness, contrast and saturation blend an image with: black, its mean gray, and its
    gray, together `[3, H, W, C]`. Without three channels its gray is the image itself.

    >>> anchors(jnp.full((1, 1, 1), 0.5)).ravel().tolist()
    [0.0, 0.5, 0.5]
    """
    gray = to_gray(image) if image.shape[-1] == 3 else image
    kinds = (jnp.zeros_like(image), gray.mean(), gray)
    return jnp.stack([jnp.broadcast_to(kind, image.shape) for kind in kinds])


def adjust_hue(image, turns):
    """The image whose hue is turned by a share of the circle; saturation and value stay.

    Args:
      image: `[H, W, 3]`, floats in [0, 1].
      turns: 1/3 makes red green.

    Raises: UserError for another number of channels, TypeError for integers.

    >>> adjust_hue(jnp.array([[[1.0, 0.0, 0.0]]]), 1 / 3).round(3).ravel().tolist()
    [0.0, 1.0, 0.0]
    """
    require_colors("hue", image)
    require_floats(image, "adjust_hue")
    value = image.max(-1, keepdims=True)
    chroma = value - image.min(-1, keepdims=True)
    red, green, blue = (image[..., i : i + 1] for i in range(3))
    divisor = jnp.where(chroma == 0, 1, chroma)
    # Compared with each other, and not with their maximum: a compiler may compute that anew, and
    # round it otherwise.
    sextant = jnp.where(
        (red >= green) & (red >= blue),
        (green - blue) / divisor,
        jnp.where(green >= blue, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    place = (jnp.array([5, 3, 1], image.dtype).reshape(1, 1, 3) + sextant + 6 * turns) % 6
    return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)


def color_jitter(key, image, *, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1):
    """Brightness, contrast, saturation and hue changed at random, in a random order.

    Args:
      key: of this image.
      image: `[H, W, C]`, floats in [0, 1].
      brightness, contrast, saturation: largest change of each factor, which is uniform in
        `[max(0, 1 - change), 1 + change]`.
      hue: largest turn to either side as a share of the circle, in [0, 0.5].

    Returns: `[H, W, C]`, clipped to [0, 1] after each change.

    Raises: ValueError for an option out of its range, UserError for a change of saturation or hue
    in images of other than three channels.

    Reference: torchvision's `ColorJitter`, whose definitions these are.

    >>> color_jitter(jax.random.key(0), jnp.ones((8, 8, 3)), brightness=0.2).shape
    (8, 8, 3)
    """
    changes = (brightness, contrast, saturation)
    require_not_negative(brightness=brightness, contrast=contrast, saturation=saturation)
    require_between(0, 0.5, hue=hue)
    if saturation or hue:
        require_colors("a change of saturation or hue", image)
    draws = jax.random.uniform(key, (6,))
    low = jnp.array([max(0, 1 - change) for change in changes])
    factors = low + (1 + jnp.array(changes) - low) * draws[:3]
    orders = jnp.array([*itertools.permutations(range(3))])
    order = orders[jnp.int32(6 * draws[3])]
    place = jnp.int32(4 * draws[4])  # how many of the others come before hue

    def change(image, position, here):
        factor = jnp.where(here, factors[order[position]], 1)
        return blend(image, anchors(image)[order[position]], factor)

    if not hue:
        for position in range(3):
            image = change(image, position, True)
        return image
    # A hue in each of four places would be the most costly part under vmap: it is turned once.
    for position in range(3):
        image = change(image, position, position < place)
    image = adjust_hue(image, (hue * (2 * draws[5] - 1)).astype(image.dtype))
    for position in range(3):
        image = change(image, position, position >= place)
    return image


def pca_noise(key, image, *, std=0.1, eigenvalues=EIGENVALUES, eigenvectors=EIGENVECTORS):
    """One color added to all pixels: along each principal component of the data set's colors, by a
    normal number times its eigenvalue.

    Args:
      key: of this image.
      image: `[H, W, 3]`, floats in [0, 1].
      std: deviation of the normal numbers.
      eigenvalues: `[3]`; the default's are ImageNet's.
      eigenvectors: `[3, 3]`, one column for each.

    Returns: `[H, W, 3]`.

    Raises: ValueError for a negative deviation, UserError for other than three channels, TypeError
    for integers.

    Reference: Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep convolutional
    neural networks", section 4.1. Differs: clipped to [0, 1].

    >>> noisy = pca_noise(jax.random.key(0), jnp.full((8, 8, 3), 0.5))
    >>> bool((noisy == noisy[:1, :1]).all()), bool((noisy == 0.5).any())
    (True, False)
    """
    require_not_negative(std=std)
    require_colors("color noise", image)
    require_floats(image, "pca_noise")
    amounts = std * jax.random.normal(key, (3,)) * jnp.asarray(eigenvalues)
    vectors = jnp.asarray(eigenvectors)
    # Not as a reduction: the XLA of jaxlib 0.10.2 fuses that with what follows, and on the CPU
    # gives wrong numbers for more than 2730 images.
    color = sum(vectors[:, i] * amounts[i] for i in range(3))
    return jnp.clip(image + color.reshape(1, 1, 3).astype(image.dtype), 0, 1)
