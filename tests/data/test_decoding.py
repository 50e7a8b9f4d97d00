import io

import cv2
import numpy as np
import pytest
from PIL import Image

from convnets.data import read_image, resize_image
from convnets.data.decoding import decode_image, encode_png, read_header
from convnets.errors import UserError

SHAPE = (12, 16, 3)


@pytest.fixture
def photo():
    """Smooth, so that JPEG keeps it nearly."""
    rows, columns = np.mgrid[:12, :16]
    return np.stack([10 * rows, 8 * columns, 5 * (rows + columns)], -1).astype(np.uint8)


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_png_is_exact_and_jpeg_near(photo):
    color, grey = Image.fromarray(photo), Image.fromarray(photo[..., 0])
    np.testing.assert_array_equal(decode_image(encode(color, "png"), "x", SHAPE), photo)
    np.testing.assert_array_equal(decode_image(encode_png(photo), "x", SHAPE), photo)
    np.testing.assert_array_equal(
        decode_image(encode(grey, "png"), "x", (12, 16, 1)), photo[..., :1]
    )
    jpeg = decode_image(encode(color, "jpeg", quality=95, subsampling=0), "x", SHAPE)
    assert np.abs(jpeg.astype(int) - photo).max() <= 6
    assert jpeg.dtype == np.uint8


@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp", "webp", "ppm"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.97])
def test_a_truncated_image_is_refused_by_name(photo, kind, kept):
    data = encode(Image.fromarray(photo), kind)
    decode_image(data, "whole", SHAPE)
    with pytest.raises(UserError, match=r"some/where\.img"):
        decode_image(data[: int(kept * len(data))], "some/where.img", SHAPE)


@pytest.mark.parametrize("missing", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_the_last_bytes_count(photo, kind, missing):
    data = encode(Image.fromarray(photo), kind)
    with pytest.raises(UserError, match="x is damaged, truncated"):
        decode_image(data[:-missing], "x", SHAPE)


def test_damage_inside_a_png_is_refused(photo):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    data = bytearray(encode(Image.fromarray(noise), "png"))
    data[len(data) // 2] ^= 255
    with pytest.raises(UserError, match="damaged"):
        decode_image(bytes(data), "x", (40, 40, 3))


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"\x89PNG" * 9])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(UserError, match=r"notes\.txt is damaged, truncated or no image"):
        decode_image(data, "notes.txt", SHAPE)


def test_an_unknown_format_is_said_to_be_one():
    with pytest.raises(UserError, match="or no image: its format is unknown$"):
        decode_image(b"hello", "notes.txt", SHAPE)


def test_grey_and_color_are_converted_to_what_is_asked(photo):
    grey = Image.fromarray(photo[..., 1])
    for kind in ("png", "jpeg"):
        color = decode_image(encode(grey, kind), "x", SHAPE)
        assert (color == color[..., :1]).all()
    np.testing.assert_array_equal(color[..., 0], color[..., 2])
    luminance = photo @ np.array([0.299, 0.587, 0.114])
    for kind, tolerance in (("png", 1), ("jpeg", 8)):
        options = {"quality": 95, "subsampling": 0} if kind == "jpeg" else {}
        data = encode(Image.fromarray(photo), kind, **options)
        result = decode_image(data, "x", (12, 16, 1))
        assert result.shape == (12, 16, 1)
        assert np.abs(result[..., 0] - luminance).max() <= tolerance


def test_transparency_is_laid_on_white(photo):
    alpha = np.zeros((12, 16, 1), np.uint8)
    alpha[:6] = 255
    data = encode(Image.fromarray(np.concatenate([photo, alpha], -1)), "png")
    result = decode_image(data, "x", SHAPE)
    np.testing.assert_array_equal(result[:6], photo[:6])
    assert (result[6:] == 255).all()
    np.testing.assert_array_equal(decode_image(data, "x", (12, 16, 4))[..., 3:], alpha)


def test_transparent_color_and_palette_and_cmyk(photo):
    grey = np.where(photo[..., 0] > 50, 100, 200).astype(np.uint8)
    data = encode(Image.fromarray(grey), "png", transparency=200)
    np.testing.assert_array_equal(
        decode_image(data, "x", (12, 16, 1))[..., 0], np.where(grey == 200, 255, 100)
    )
    palette = Image.fromarray(grey).convert("P")
    assert (decode_image(encode(palette, "png"), "x", SHAPE)[..., 1] == grey).all()
    cmyk = encode(Image.fromarray(photo).convert("CMYK"), "jpeg", quality=95)
    assert np.abs(decode_image(cmyk, "x", SHAPE).astype(int) - photo).max() <= 12


@pytest.mark.parametrize("kind", ["png", "ppm", "tiff"])
def test_of_16_bits_the_high_byte_is_kept(photo, kind):
    values = photo[..., 0].astype(np.uint16) * 256 + 77
    data = encode(Image.fromarray(values), kind)
    np.testing.assert_array_equal(decode_image(data, "x", (12, 16, 1))[..., 0], photo[..., 0])
    np.testing.assert_array_equal(decode_image(data, "x", SHAPE)[..., 2], photo[..., 0])


def test_16_bit_color_png():
    import cv2

    values = np.arange(2 * 3 * 3, dtype=np.uint16).reshape(2, 3, 3) * 3000
    data = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode_image(data, "x", (2, 3, 3)), values >> 8)


def test_floating_point_images_are_refused():
    data = encode(Image.fromarray(np.ones((2, 2), np.float32)), "tiff")
    with pytest.raises(UserError, match="floating-point"):
        decode_image(data, "x", (2, 2, 1))


def test_another_size_is_refused_unless_resized(photo, tmp_path):
    data = encode(Image.fromarray(photo), "png")
    with pytest.raises(UserError, match="x is 12x16, the data set 12x12; give an image size"):
        decode_image(data, "x", (12, 12, 3))
    path = tmp_path / "x.png"
    path.write_bytes(data)
    np.testing.assert_array_equal(read_image(path, (12, 12, 3)), photo[:, 2:14])
    with pytest.raises(UserError, match=r"cannot read .*nothing\.png: No such file"):
        read_image(tmp_path / "nothing.png", SHAPE)


def test_resizing_covers_and_crops_the_center():
    image = np.zeros((40, 20, 1), np.uint8)
    image[:20] = 100
    image[20:] = 200
    small = resize_image(image, 10, 10)  # scaled to 20x10, rows 5 to 14 kept
    assert small.shape == (10, 10, 1)
    assert (small[:5] == 100).all()
    assert (small[5:] == 200).all()
    assert resize_image(image, 50, 30).shape == (50, 30, 1)
    assert resize_image(image, 7, 33).shape == (7, 33, 1)
    averaged = resize_image(np.tile(np.array([[[0], [100]]], np.uint8), (4, 2, 1)), 2, 2)
    assert (averaged == 50).all()  # no aliasing


def test_a_large_jpeg_is_decoded_reduced_and_looks_the_same():
    rows, columns = np.mgrid[:320, :400]
    photo = (127 + 60 * np.sin(rows / 40) + 60 * np.cos(columns / 30)).astype(np.uint8)
    data = encode(Image.fromarray(photo), "jpeg", quality=95)
    result = decode_image(data, "x", (32, 40, 1), resize=True)
    assert np.abs(result.astype(int) - resize_image(photo[..., None], 32, 40)).max() <= 3


def test_headers_tell_size_and_kind(photo, tmp_path):
    cases = {
        "color.jpg": (Image.fromarray(photo), {"color"}),
        "grey.png": (Image.fromarray(photo[..., 0]), set()),
        "palette.png": (Image.fromarray(photo).convert("P"), {"color", "palette"}),
        "clear.png": (Image.fromarray(photo).convert("RGBA"), {"color", "transparency"}),
        "deep.png": (Image.fromarray(photo[..., 0].astype(np.uint16)), {"16-bit"}),
        "print.jpg": (Image.fromarray(photo).convert("CMYK"), {"color", "CMYK"}),
    }
    for name, (image, traits) in cases.items():
        image.save(tmp_path / name)
        assert read_header(tmp_path / name) == (12, 16, traits), name
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"text\.jpg is not an image"):
        read_header(tmp_path / "text.jpg")


def test_a_png_with_a_wrong_checksum_is_refused(tmp_path):
    data = bytearray(encode_png(np.arange(64, dtype=np.uint8).reshape(8, 8, 1)))
    assert decode_image(bytes(data), "whole", (8, 8, 1)).shape == (8, 8, 1)
    data[-14] ^= 0xFF  # in the checksum of the pixels
    with pytest.raises(UserError, match="flipped.*wrong checksum in the PNG's chunk IDAT"):
        decode_image(bytes(data), "flipped", (8, 8, 1))


def test_of_a_long_strip_only_the_middle_is_scaled():
    strip = np.zeros((60_000, 1, 3), np.uint8)
    strip[29_999:30_001] = 200
    result = resize_image(strip, 224, 224)  # all of it would be scaled to nine gigabytes
    assert result.shape == (224, 224, 3)
    assert result[112].min() > 190
    mild = np.random.default_rng(0).integers(0, 256, (600, 100, 3), np.uint8)
    whole = resize_image(mild, 20, 20)  # up to eight times as long nothing is left out
    scaled = cv2.resize(mild, (20, 120), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(whole, scaled[50:70])


def test_channels_that_no_image_file_has(photo):
    with pytest.raises(UserError, match="1, 3 or 4 channels; 2 were asked for"):
        decode_image(encode(Image.fromarray(photo), "png"), "x", (12, 16, 2))
