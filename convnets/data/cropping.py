"""Random crops of images while they are decoded, and the antialiased resize that follows."""

import math
from collections.abc import Callable

import numpy as np

ATTEMPTS = 10  # draws of an area and an aspect, before the center is taken
DRAWN = 2**63  # the second half of the key of crops; that of an epoch's order is its number

Box = tuple[int, int, int, int]  # y0, x0, y1, x1 in pixels
Crop = Callable[[int, int], Box]  # which part of an image of so many rows and columns to take


def random_resized_crop(
    draws: np.ndarray,
    height: int,
    width: int,
    *,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """A random part of an image, which is then brought to the size of all images.

    Its share of the area is uniform, and so is the logarithm of its width over its height; it lies
    anywhere with equal probability. Where ten draws do not fit into the image, it is the largest
    part in the center of an aspect allowed.

    Args:
      draws: floats in [0, 1), `[10, 4]`.
      height, width: of the image, in pixels.
      area: smallest and largest share of the image's area, in (0, 1].
      aspect: smallest and largest width over height.

    Returns: `(y0, x0, y1, x1)`, at least a pixel.

    Raises: ValueError for an impossible area or aspect.

    Reference: Szegedy et al. 2014, "Going deeper with convolutions", section 6, as torchvision's
    `RandomResizedCrop` does it.

    >>> random_resized_crop(np.full((10, 4), 0.5), 200, 300)
    (10, 60, 190, 240)
    """
    if not (0 < area[0] <= area[1] <= 1 and 0 < aspect[0] <= aspect[1]):
        raise ValueError(f"no part of an image has the area {area} and the aspect {aspect}")
    log_aspects = math.log(aspect[0]), math.log(aspect[1])
    for for_area, for_aspect, for_row, for_column in draws.tolist():
        pixels = height * width * _between(*area, for_area)
        ratio = math.exp(_between(*log_aspects, for_aspect))
        rows, columns = round(math.sqrt(pixels / ratio)), round(math.sqrt(pixels * ratio))
        if 0 < rows <= height and 0 < columns <= width:
            top = int(for_row * (height - rows + 1))
            left = int(for_column * (width - columns + 1))
            return top, left, top + rows, left + columns
    rows = max(1, min(height, round(width / aspect[0])))
    columns = max(1, min(width, round(height * aspect[1])))
    top, left = (height - rows) // 2, (width - columns) // 2
    return top, left, top + rows, left + columns


def _between(low, high, share):
    return low + share * (high - low)


CROPS: dict[str, Callable[[np.ndarray, int, int], Box]] = {
    "random_resized_crop": random_resized_crop
}


def draw_for_crops(seed: int, position: int, count: int) -> np.ndarray:
    """What the crops at `count` positions of a run are made of, floats in [0, 1) `[count, 10, 4]`.

    Each position has its own draws, whatever is asked for together. They are made of the raw bits
    of a NumPy bit generator, which are fixed for ever.

    >>> np.array_equal(draw_for_crops(0, 5, 3)[1], draw_for_crops(0, 6, 1)[0])
    True
    """
    key = np.array((seed, DRAWN), np.uint64)
    # A step of the counter makes four numbers, which is one attempt.
    bits = np.random.Philox(key=key, counter=position * ATTEMPTS).random_raw(count * ATTEMPTS * 4)
    return ((bits >> np.uint64(11)) * 2.0**-53).reshape(count, ATTEMPTS, 4)


def crop_and_resize(image: np.ndarray, box: Box, height: int, width: int) -> np.ndarray:
    """A part of `[H, W, C]` uint8 brought to `height`x`width`, antialiased.

    Enlarging is bilinear. Shrinking weighs the covered pixels: they are smoothed to the variance of
    the triangle by which Pillow and `tf.image.resize` shrink with antialiasing, and then read
    bilinearly; where there are four times as many on a side, areas are averaged before.

    Differs: from that triangle by less than 1.5 of 255 on average in photographs, in a quarter of
    the time. Stripes of single pixels are damped as by averaging areas, which is less.

    >>> image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    >>> crop_and_resize(image, (0, 0, 4, 2), 2, 1).ravel()
    array([ 4, 10], dtype=uint8)
    """
    import cv2

    y0, x0, y1, x1 = box
    part = image[y0:y1, x0:x1]
    rows = part.shape[0] if part.shape[0] < 4 * height else 2 * height
    columns = part.shape[1] if part.shape[1] < 4 * width else 2 * width
    if (rows, columns) != part.shape[:2]:
        part = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    if rows > height or columns > width:
        part = cv2.sepFilter2D(part, -1, _smoothing(columns / width), _smoothing(rows / height))
    if part.shape[:2] != (height, width):
        part = cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
    return part.reshape(height, width, image.shape[2])  # OpenCV drops a single channel's axis


def _smoothing(scale):
    """Taps, three or more; with bilinear reading they have the variance of the triangle."""
    excess = max(0.0, (scale**2 - 1) / 12)
    taps, times = np.ones(1), math.ceil(4 * excess)  # three taps hold a quarter of it at most
    for _ in range(times):
        side = excess / times
        taps = np.convolve(taps, [side, 1 - 2 * side, side])
    return taps.astype(np.float32)


def reduction(box: Box, height: int, width: int) -> int:
    """The largest of 1, 2, 4 and 8 by which a box may be reduced and still cover a size.

    >>> reduction((0, 0, 500, 460), 224, 224), reduction((0, 0, 900, 300), 224, 224)
    (2, 1)
    """
    y0, x0, y1, x1 = box
    fits = min((y1 - y0) // height, (x1 - x0) // width)
    return max(factor for factor in (1, 2, 4, 8) if factor <= max(fits, 1))
