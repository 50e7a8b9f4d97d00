"""What a pretrained model wants done to an image, and doing it as its trainers did.

Reference: torchvision's `Resize` and `CenterCrop`, and timm's evaluation transform, which is made
of them. The resize is Pillow's, as theirs is: other libraries' differ by many gray levels at edges.
"""

import functools
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.decoding import decode_image, read_bytes, read_header
from ..errors import UserError, unknown
from ..ops import Normalization

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


class Preprocessing(NamedTuple):
    """How an image becomes the input of a model.

    Attributes:
      image_size: side in pixels of the square that the model sees.
      crop_fraction: this side over the image's short side after the resize, in (0, 1].
      interpolation: name of Pillow's filter; all but nearest antialias.
      mean, std: of each channel, in units of [0, 1]; as many as the model has input channels.
      class_names: by class; None where nobody knows them.
    """

    image_size: int = 224
    crop_fraction: float = 0.875
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    class_names: tuple[str, ...] | None = None

    @property
    def normalization(self) -> Normalization:
        """Mean and standard deviation as `convnets.prepare` and a training state take them."""
        return Normalization(self.mean, self.std)


def preprocess(image, preprocessing: Preprocessing) -> np.ndarray:
    """An image as a model wants it: resized, cropped, normalized.

    Args:
      image: uint8 `[H, W, C]`, with the model's channels; or the path of an image file, which is
        decoded to them (1: gray, 3: RGB, 4: RGBA).
      preprocessing: of the model.

    Returns: float32 `[image_size, image_size, C]`.

    Raises: UserError for an image of another type or shape, and for a file that is none.

    >>> preprocess(np.full((300, 400, 3), 255, np.uint8), Preprocessing()).shape
    (224, 224, 3)
    """
    square = crop_center(image, preprocessing)
    mean, std = (np.asarray(values, np.float32) for values in preprocessing.normalization)
    return (square.astype(np.float32) / 255 - mean) / std


def crop_center(image, preprocessing: Preprocessing) -> np.ndarray:
    """The center of an image at the size that a model sees, `preprocess` without the floats.

    Its short side is brought to `image_size / crop_fraction` and the long one in proportion, both
    rounded down, then the center is cut out: uint8 `[image_size, image_size, C]`, which
    `convnets.predict` takes. Arguments and errors as in `preprocess`.

    >>> image = np.arange(256, dtype=np.uint8).repeat(256).reshape(256, 256, 1)
    >>> crop_center(image, Preprocessing(mean=(0.5,), std=(0.5,)))[[0, -1], 0, 0]
    array([ 16, 239], dtype=uint8)
    """
    image = _require_image(image, len(preprocessing.mean))
    rows, columns = image.shape[:2]
    side = preprocessing.image_size
    short = math.floor(side / preprocessing.crop_fraction)
    if rows < columns:
        height, width = short, int(short * columns / rows)
    else:
        height, width = int(short * rows / columns), short
    resized = _resize(image, height, width, preprocessing.interpolation)
    top, left = round((height - side) / 2), round((width - side) / 2)
    return np.ascontiguousarray(resized[top : top + side, left : left + side])


def _require_image(image, channels):
    if isinstance(image, str | os.PathLike):
        header = read_header(image)
        return decode_image(read_bytes(image), str(image), (header.height, header.width, channels))
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels or not image.size:
        raise UserError(
            f"expected an image uint8 [H, W, {channels}], came {image.dtype} {list(image.shape)}"
        )
    return image


def _resize(image, height, width, interpolation):
    from PIL import Image

    if interpolation not in INTERPOLATIONS:
        raise unknown("interpolation", interpolation, INTERPOLATIONS)
    method = Image.Resampling[interpolation.upper()]
    # By channel: Pillow would take two or four of them for transparency.
    parts = [image] if image.shape[2] == 3 else np.moveaxis(image, 2, 0)
    resized = [Image.fromarray(part).resize((width, height), method) for part in parts]
    return np.dstack([np.asarray(part) for part in resized])


def describe_preprocessing(config: Mapping) -> Preprocessing:
    """The preprocessing in the `config.json` of a timm repository.

    As timm's `create_transform` of the model's own `resolve_model_data_config`: the size is that
    of the training (`input_size`), also where another one (`test_input_size`) has been found to
    give a somewhat better accuracy. Class names are those of `label_names`, or ImageNet's where
    there are 1000 classes without a name.

    Raises: UserError for what is no such config, or asks for another kind of crop.

    >>> config = {"input_size": [3, 288, 288], "crop_pct": 1.0, "interpolation": "bicubic"}
    >>> describe_preprocessing({"pretrained_cfg": config})[:3]
    (288, 1.0, 'bicubic')
    """
    try:
        found = config["pretrained_cfg"]
        channels, height, width = map(int, found.get("input_size", (3, 224, 224)))
        names = config.get("label_names", found.get("label_names"))
        num_classes = config.get("num_classes", found.get("num_classes", 1000))
        crop = found.get("crop_mode") or "center"
        if isinstance(names, Mapping):  # by the number of the class, as text
            names = [names[str(index)] for index in range(len(names))]
        if names is None and num_classes == 1000:
            names = imagenet_classes()
        preprocessing = Preprocessing(
            image_size=height,
            crop_fraction=float(found.get("crop_pct", 0.875)),
            interpolation=found.get("interpolation", "bicubic"),
            mean=tuple(float(value) for value in found.get("mean", IMAGENET_MEAN)),
            std=tuple(float(value) for value in found.get("std", IMAGENET_STD)),
            class_names=None if names is None else tuple(names),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"expected the config of a timm model: {error!r}") from None
    mean, std = preprocessing.normalization
    if not (len(mean) == len(std) == channels and np.isfinite(mean).all() and min(std) > 0):
        raise UserError(f"expected {channels} means and positive deviations, came {mean} and {std}")
    if not (height == width > 0 and 0 < preprocessing.crop_fraction <= 1 and crop == "center"):
        raise UserError(
            f"expected the center crop of a square, came {height}x{width}, crop {crop!r} of "
            f"{preprocessing.crop_fraction}"
        )
    if preprocessing.interpolation not in INTERPOLATIONS:
        raise unknown("interpolation", preprocessing.interpolation, INTERPOLATIONS)
    return preprocessing


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """Names of ImageNet's 1000 classes, in the order of the outputs of its models.

    They are WordNet's, the first one of each synset; two of them stand for two classes each
    (crane: 134 the bird, 517 the machine; maillot: 638, 639).

    >>> imagenet_classes()[:2], len(imagenet_classes())
    (('tench', 'goldfish'), 1000)
    """
    text = Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))
