"""Encoded images (JPEG, PNG, …) to uint8 arrays, strictly: what is damaged is refused."""

import io
import math
import struct
import zlib
from typing import NamedTuple

import numpy as np

from convnets.errors import UserError

from .cropping import Crop, crop_and_resize, reduction

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
JPEG_START = b"\xff\xd8"
PNG_START = b"\x89PNG\r\n\x1a\n"


class Header(NamedTuple):
    """What an image file says of itself before it is decoded."""

    height: int
    width: int
    traits: frozenset[str]  # of: "color", "palette", "CMYK", "transparency", "16-bit"


def read_header(path) -> Header:
    """Size and kind of an image file, from its first bytes. Raises UserError if it is no image."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
            return Header(height, width, _traits(image))
    except Exception as error:  # whatever Pillow's many readers stumble over in foreign bytes
        raise UserError(f"{path} is not an image that can be read: {error}") from None


def read_image(path, image_shape) -> np.ndarray:
    """One image file as uint8 `[H, W, C]` of `image_shape`, as `decode_image` does it.

    Scaled until it just covers the shape, and its center cropped. Raises UserError for a file that
    is missing, no image, or truncated.
    """
    return decode_image(read_bytes(path), str(path), image_shape, resize=True)


def read_bytes(path) -> bytes:
    """The whole file. Raises UserError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def decode_image(
    data: bytes,
    name: str,
    image_shape,
    *,
    resize: bool = False,
    crop: Crop | None = None,
) -> np.ndarray:
    """Decodes one image.

    Args:
      data: the bytes of a JPEG, PNG or any other format that Pillow reads.
      name: what to call it in an error, its path.
      image_shape: `(H, W, C)` of the result. `C` 1: grey, the luminance of color; 3: RGB; 4: RGBA.
        With 1 and 3, transparent pixels show white. Of 16-bit values the high byte is kept.
      resize: bring other sizes to `H`x`W` with `resize_image`; otherwise they are an error.
      crop: the part, of an image of so many rows and columns, that is brought to `H`x`W` instead.
        Where it is larger by 2, 4 or 8, a JPEG is decoded at that fraction of its size, and the
        edges of the part are rounded to multiples of it.

    Returns: uint8 `[H, W, C]`. Orientation tags of cameras are ignored, as torchvision and
    TensorFlow ignore them.

    Raises: UserError, naming the image, if it is truncated, damaged, no image, or of another size.
    """
    height, width, channels = image_shape
    if channels not in (1, 3, 4):
        raise UserError(f"an image file has 1, 3 or 4 channels; {channels} were asked for")

    def at_least(rows, columns):
        """What may be left of a JPEG by decoding it at a fraction of its size; 0: all of it."""
        if crop is None:
            return (2 * height, 2 * width) if resize else (0, 0)
        fraction = reduction(crop(rows, columns), height, width)
        return (-(-rows // fraction), -(-columns // fraction)) if fraction > 1 else (0, 0)

    try:
        image, size = _decode(data, channels, at_least)
    except Exception as error:  # whatever the decoders stumble over in foreign bytes
        raise UserError(f"{name} is damaged, truncated or no image: {error}") from None
    if crop is not None:
        box = crop(*size)
        if image.shape[:2] != size:  # the edges go to whole pixels of what was decoded
            fraction = reduction(box, height, width)
            box = tuple((edge + fraction // 2) // fraction for edge in box)
        return crop_and_resize(image, box, height, width)
    if resize:
        return resize_image(image, height, width)
    if image.shape != (height, width, channels):
        raise UserError(
            f"{name} is {image.shape[0]}x{image.shape[1]}, the data set {height}x{width}; "
            "give an image size to bring all images to it"
        )
    return image


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scales `[H, W, C]` uint8 until it just covers `height`x`width`, and crops the center.

    Shrinking averages the covered pixels, enlarging is bicubic.
    """
    import cv2

    if image.shape[:2] == (height, width):
        return image
    scale = max(height / image.shape[0], width / image.shape[1])
    # Of a long strip only the middle is seen; all of it would be scaled to a huge image.
    image = _middle(image, *(math.ceil(8 * side / scale) for side in (height, width)))
    rows = max(height, round(image.shape[0] * scale))
    columns = max(width, round(image.shape[1] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(image, (columns, rows), interpolation=method)
    scaled = scaled.reshape(rows, columns, image.shape[2])  # OpenCV drops a single channel's axis
    return np.ascontiguousarray(_middle(scaled, height, width))


def _middle(image, height, width):
    """The center of an image, no larger than a size."""
    top, left = (max(0, (side - kept) // 2) for side, kept in zip(image.shape, (height, width)))
    return image[top : top + height, left : left + width]


def encode_png(image: np.ndarray) -> bytes:
    """uint8 `[H, W, 1]` or `[H, W, 3]` (RGB) as the bytes of a PNG."""
    import cv2

    pixels = image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", pixels)[1].tobytes()


def _decode(data, channels, at_least):
    """The image, and the size it has by its header, which is larger where a part of it would do.

    The fast decoder where it is strict and sure of its ground, else Pillow.
    """
    if data.startswith(JPEG_START) and channels in (1, 3):
        import simplejpeg

        try:
            colors = "GRAY" if channels == 1 else "RGB"
            size = simplejpeg.decode_jpeg_header(data)[:2]
            rows, columns = at_least(*size)
            image = simplejpeg.decode_jpeg(
                data, colors, min_height=rows, min_width=columns, strict=True
            )
            return image, size
        except ValueError:  # CMYK, or a flaw: Pillow reads the one and tells which flaws matter
            pass
    if data.startswith(PNG_START):
        _require_whole_png(data)
        # Bit depth and color type: plain 8-bit grey or RGB without a transparent color.
        if data[24] == 8 and data[25] == {1: 0, 3: 2}.get(channels) and b"tRNS" not in data[:256]:
            image = _decode_png(data, channels)
            if image is not None:
                return image, image.shape[:2]
    image = _decode_with_pillow(data, channels)
    return image, image.shape[:2]


def _require_whole_png(data):
    """Refuses what the decoders may accept: a missing end, a chunk without its checksum."""
    view, position, kind = memoryview(data), len(PNG_START), b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise OSError("the end of the PNG is missing")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            raise OSError("the end of the PNG is missing")
        if zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4]):
            raise OSError(f"a wrong checksum in the PNG's chunk {kind.decode('latin-1')}")
        position = end + 4


def _decode_png(data, channels):
    import cv2

    mode = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
    image = cv2.imdecode(np.frombuffer(data, np.uint8), mode | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if image is None else image.reshape(*image.shape[:2], channels)


def _decode_with_pillow(data, channels):
    from PIL import Image, UnidentifiedImageError

    try:
        opened = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise OSError("its format is unknown") from None
    with opened as image:
        image.load()
        traits = _traits(image)
        if image.mode == "F":
            raise OSError("floating-point pixels")
        if image.mode.startswith("I"):
            values = np.asarray(image)
            if values.min() < 0 or values.max() > 65535:
                raise OSError("32-bit pixels")
            image = Image.fromarray((values >> 8).astype(np.uint8))
        if "transparency" in traits and channels != 4:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        if channels == 1 and "color" in traits:
            image = image.convert("RGB")  # not every mode converts to grey directly
        pixels = np.array(image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
        return pixels.reshape(*pixels.shape[:2], channels)


def _traits(image) -> frozenset[str]:
    mode = image.mode
    stored = str(image.tile[0].args) if getattr(image, "tile", None) else ""
    traits = {
        "color": mode not in ("1", "L", "LA", "La", "F") and not mode.startswith("I"),
        "palette": mode in ("P", "PA"),
        "CMYK": mode == "CMYK",
        "transparency": mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info,
        "16-bit": mode.startswith("I") or ";16" in stored,
    }
    return frozenset(name for name, present in traits.items() if present)
