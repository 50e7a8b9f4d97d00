import functools
import io
import math

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from convnets.data import (
    ArraySource,
    FileSource,
    batch_indices,
    batches,
    in_memory,
    random_resized_crop,
)
from convnets.data.cropping import crop_and_resize, draw_for_crops, reduction
from convnets.data.decoding import decode_image
from convnets.errors import UserError

SIZE = (40, 48)


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def draw_boxes(count, height, width, **options):
    draws = draw_for_crops(7, 0, count)
    return np.array([random_resized_crop(each, height, width, **options) for each in draws])


def photo(height, width, seed=0):
    """Smooth noise with structure at many scales."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.uniform(0, 1, (n, n, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
        for n in (4, 12, 24)
    ]
    return np.clip(255 * np.mean(layers, 0), 0, 255).astype(np.uint8)


def pillow_resize(image, size):
    """An independent antialiased bilinear resize: a triangle as wide as the scale."""
    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized).astype(int)


def test_areas_aspects_and_places_are_uniform():
    """Where every draw fits: parts of at most half of a square."""
    y0, x0, y1, x1 = draw_boxes(4000, 3000, 3000, area=(0.1, 0.5), aspect=(3 / 4, 4 / 3)).T
    rows, columns = y1 - y0, x1 - x0
    assert (y0 >= 0).all()
    assert (y1 <= 3000).all()
    for values, low, high in (
        (rows * columns / 3000**2, 0.1, 0.5),
        (np.log(columns / rows), math.log(3 / 4), math.log(4 / 3)),
        (y0 / (3000 - rows), 0, 1),
        (x0 / (3000 - columns), 0, 1),
    ):
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_parts_are_distributed_as_those_of_the_reference():
    """Drawn again until they fit, at most ten times: Szegedy et al. and torchvision."""
    height, width, rng = 256, 341, np.random.default_rng(0)
    expected = []
    while len(expected) < 6000:
        share, ratio = rng.uniform(0.08, 1), math.exp(rng.uniform(*np.log([3 / 4, 4 / 3])))
        rows = round(math.sqrt(height * width * share / ratio))
        columns = round(math.sqrt(height * width * share * ratio))
        if rows <= height and columns <= width:
            top = rng.integers(0, height - rows + 1)
            left = rng.integers(0, width - columns + 1)
            expected.append((top, left, top + rows, left + columns))
    found = draw_boxes(6000, height, width)
    for edges, others in zip(found.T, np.array(expected).T):
        assert stats.ks_2samp(edges, others).pvalue > 1e-3
    areas, others = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (found, np.array(expected)))
    assert stats.ks_2samp(areas, others).pvalue > 1e-3


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((1, 1), (0, 0, 1, 1)),
        ((1, 900), (0, 449, 1, 450)),
        ((900, 1), (449, 0, 450, 1)),
        ((30, 900), (0, 430, 30, 470)),
        ((900, 30), (430, 0, 470, 30)),
    ],
)
def test_what_nothing_fits_into_gives_its_center(size, box):
    draws = np.full((10, 4), 0.999)
    assert random_resized_crop(draws, *size) == box


def test_every_part_has_a_pixel_and_lies_inside():
    for height, width in [(1, 1), (1, 2), (3, 1), (2, 500), (7, 5)]:
        y0, x0, y1, x1 = draw_boxes(300, height, width).T
        assert (y0 >= 0).all()
        assert (y1 > y0).all()
        assert (y1 <= height).all()
        assert (x0 >= 0).all()
        assert (x1 > x0).all()
        assert (x1 <= width).all()


@pytest.mark.parametrize("options", [{"area": (0, 1)}, {"area": (0.5, 2)}, {"aspect": (2, 1)}])
def test_impossible_options(options):
    with pytest.raises(ValueError, match="no part of an image has"):
        random_resized_crop(np.zeros((10, 4)), 10, 10, **options)


def test_draws_depend_on_seed_and_position_alone():
    whole = draw_for_crops(3, 0, 50)
    for position in (1, 17, 49):
        np.testing.assert_array_equal(draw_for_crops(3, position, 1)[0], whole[position])
    assert len(np.unique(whole)) == whole.size
    assert not np.isin(whole, draw_for_crops(4, 0, 50)).any()
    assert stats.kstest(draw_for_crops(0, 10**9, 1000).ravel(), "uniform").pvalue > 1e-3
    # For ever: what a run has seen can be found again.
    np.testing.assert_allclose(whole[0, 0], FIRST_DRAWS, atol=1e-15)


FIRST_DRAWS = [0.5512624605927677, 0.25581103220180645, 0.5442372554171996, 0.12306895624572545]


@pytest.mark.parametrize("box", [(0, 0, 300, 400), (10, 20, 130, 400), (5, 7, 60, 60)])
@pytest.mark.parametrize("size", [(224, 224), (150, 100), (64, 64), (20, 30)])
def test_resizing_is_near_pillows_antialiased_bilinear(box, size):
    y0, x0, y1, x1 = box
    image = photo(300, 400)
    result = crop_and_resize(image, box, *size)
    assert result.shape == (*size, 3)
    assert np.abs(result - pillow_resize(image[y0:y1, x0:x1], size)).mean() < 1.5
    grey = crop_and_resize(image[..., :1], box, *size)
    assert grey.shape == (*size, 1)
    assert np.abs(grey[..., 0] - result[..., 0].astype(int)).max() <= 1


@pytest.mark.parametrize("side", [50, 52, 60, 75])
def test_what_is_too_fine_for_the_size_turns_grey(side):
    """Stripes of one pixel: without antialiasing they come out as coarser ones."""
    stripes = np.zeros((100, 100, 1), np.uint8)
    stripes[:, ::2] = 200
    result = crop_and_resize(stripes, (0, 0, 100, 100), side, side)[..., 0]
    turned = crop_and_resize(stripes.transpose(1, 0, 2), (0, 0, 100, 100), side, side)[..., 0]
    assert np.abs(turned - result.T.astype(int)).max() <= 1
    averaged, plain = (
        cv2.resize(stripes, (side, side), interpolation=method)
        for method in (cv2.INTER_AREA, cv2.INTER_LINEAR)
    )
    middle = (slice(2, -2), slice(2, -2))
    assert abs(result[middle].mean() - 100) < 2
    assert result[middle].std() < averaged[middle].std() + 6
    assert result[middle].std() <= 0.75 * plain[middle].std()


def test_a_part_of_the_size_asked_for_stays_as_it_is():
    image = photo(50, 60)
    np.testing.assert_array_equal(crop_and_resize(image, (5, 6, 45, 54), *SIZE), image[5:45, 6:54])


@pytest.mark.parametrize(("height", "width"), [(120, 212), (641, 483), (1203, 1601)])
def test_a_photo_is_decoded_small_where_the_part_allows_it(height, width, monkeypatch):
    """Never below the size asked for, and near to what decoding all of it gives."""
    data = encode(Image.fromarray(photo(height, width)), "jpeg", quality=90)
    whole = np.asarray(Image.open(io.BytesIO(data)))
    seen = []

    def watch(image, box, *size):
        seen[:] = [image.shape[:2], box]
        return crop_and_resize(image, box, *size)

    monkeypatch.setattr("convnets.data.decoding.crop_and_resize", watch)
    fractions = set()
    for draws in draw_for_crops(1, 0, 12):
        crop = functools.partial(random_resized_crop, draws)
        result = decode_image(data, "x", (*SIZE, 3), crop=crop)
        fraction = reduction(crop(height, width), *SIZE)
        fractions.add(fraction)
        shape, (top, left, bottom, right) = seen
        assert shape == (-(-height // fraction), -(-width // fraction))
        assert fraction == 1 or (bottom - top >= SIZE[0] and right - left >= SIZE[1])
        rounded = np.array(seen[1]) * fraction
        assert np.abs(rounded - crop(height, width)).max() <= fraction / 2
        y0, x0, y1, x1 = rounded
        expected = pillow_resize(whole[y0:y1, x0:x1], SIZE)
        assert np.abs(result - expected).mean() < 2
    assert max(fractions) == {120: 2, 641: 8, 1203: 8}[height]


@pytest.mark.parametrize(("side", "most"), [(48, 2), (64, 2), (128, 1), (224, 0.5)])
def test_real_photos(shared, side, most):
    """Decoded at a half and a quarter, or whole for the larger sides."""
    paths = sorted((shared / "data" / "imagenet_sample_1000" / "images").glob("*.jpg"))[::50]
    errors = []
    for path, draws in zip(paths, draw_for_crops(side, 0, len(paths))):
        crop = functools.partial(random_resized_crop, draws)
        result = decode_image(path.read_bytes(), str(path), (side, side, 3), crop=crop)
        whole = np.asarray(Image.open(path).convert("RGB"))
        box = crop(*whole.shape[:2])
        fraction = reduction(box, side, side)
        y0, x0, y1, x1 = ((edge + fraction // 2) // fraction * fraction for edge in box)
        expected = pillow_resize(whole[y0:y1, x0:x1], (side, side))
        errors.append(np.abs(result - expected).mean())
    assert np.mean(errors) < most


@pytest.fixture
def folder(tmp_path):
    """Kinds of files that one may find side by side."""
    image = Image.fromarray(photo(90, 120))
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.convert("L").save(tmp_path / "grey.jpg")
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    image.save(tmp_path / "progressive.jpg", progressive=True)
    image.save(tmp_path / "photo.png")
    image.quantize(200).save(tmp_path / "palette.png")
    image.save(tmp_path / "photo.webp", lossless=True)
    image.resize((1, 1)).save(tmp_path / "pixel.jpg")
    image.resize((400, 1)).save(tmp_path / "line.jpg")
    image.resize((2, 300)).save(tmp_path / "pole.png")
    return tmp_path


def source_of(folder, shape=(*SIZE, 3)):
    paths = sorted(str(path) for path in folder.iterdir())
    return FileSource(paths, range(len(paths)), shape, resize=True)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_kind_of_file_gives_the_part_of_its_picture(folder, channels):
    source = source_of(folder, (*SIZE, channels))
    reader = batches(source, len(source), crop=random_resized_crop)
    batch = next(reader(0))
    assert batch["image"].shape == (10, *SIZE, channels)
    assert batch["image"].dtype == np.uint8
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    for image, index, draws in zip(
        batch["image"], batch_indices(10, 10, 0), draw_for_crops(0, 0, 10)
    ):
        whole = np.asarray(Image.open(source.paths[index]).convert("RGB").convert(mode))
        y0, x0, y1, x1 = random_resized_crop(draws, *whole.shape[:2])
        expected = pillow_resize(whole[y0:y1, x0:x1], SIZE).reshape(image.shape)
        error = np.abs(image - expected).mean()
        assert error < 3, source.paths[index]


@pytest.mark.parametrize("kept", [0.5, 0.99])
@pytest.mark.parametrize("name", ["turned.jpg", "grey.jpg", "photo.png", "photo.webp"])
def test_a_truncated_file_is_refused_by_name(folder, name, kept):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(kept * len(data))])
    reader = batches(source_of(folder), 10, crop=random_resized_crop)
    with pytest.raises(UserError, match=f"{name} is damaged, truncated or no image"):
        next(reader(0))


def take(iterator, count):
    taken = [next(iterator) for _ in range(count)]
    iterator.close()
    return taken


def test_a_part_depends_on_seed_and_position_alone(folder):
    """Not on the workers, the share of the batch, nor on where the run was taken up."""
    options = {"seed": 3, "crop": random_resized_crop}
    expected = take(batches(source_of(folder), 4, **options)(0), 6)
    ways = [batches(source_of(folder), 4, workers=workers, **options)(2) for workers in (0, 1, 2)]
    for way in ways:
        for batch, other in zip(take(way, 4), expected[2:]):
            np.testing.assert_array_equal(batch["image"], other["image"])
            np.testing.assert_array_equal(batch["label"], other["label"])
    halves = [
        take(batches(source_of(folder), 4, process_index=index, process_count=2, **options)(2), 1)
        for index in range(2)
    ]
    images = np.concatenate([half[0]["image"] for half in halves])
    np.testing.assert_array_equal(images, expected[2]["image"])
    single = take(batches(source_of(folder), 1, **options)(0), 24)
    one_by_one = np.concatenate([each["image"] for each in single])
    np.testing.assert_array_equal(one_by_one, np.concatenate([e["image"] for e in expected]))
    other_seed = take(batches(source_of(folder), 4, seed=4, crop=random_resized_crop)(0), 1)
    assert not np.array_equal(other_seed[0]["image"], expected[0]["image"])


def test_of_an_image_in_memory_the_part_is_taken_from_the_file(folder):
    files = source_of(folder)
    held = in_memory(files)
    assert held.original is files
    chosen = held.select([4, 1, 7])
    assert chosen.original.paths.tolist() == files.paths[[4, 1, 7]].tolist()
    options = {"seed": 1, "crop": functools.partial(random_resized_crop, area=(0.5, 1))}
    batch, other = (next(batches(source, 10, **options)(0)) for source in (held, files))
    np.testing.assert_array_equal(batch["image"], other["image"])


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_of_arrays_the_part_is_taken_as_they_are(channels):
    images = np.random.default_rng(0).integers(0, 256, (6, 20, 24, channels), np.uint8)
    source = ArraySource(images, range(6))
    assert source.original is source
    batch = next(batches(source, 6, seed=2, crop=random_resized_crop)(0))
    for image, label, draws in zip(batch["image"], batch["label"], draw_for_crops(2, 0, 6)):
        y0, x0, y1, x1 = random_resized_crop(draws, 20, 24)
        part = images[label, y0:y1, x0:x1]
        expected = cv2.resize(part, (24, 20), interpolation=cv2.INTER_LINEAR)
        assert image.shape == (20, 24, channels)
        assert np.abs(image.astype(int) - expected.reshape(image.shape)).mean() < 12
