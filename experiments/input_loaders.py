"""Three loaders that do the same work, each in a process of its own, for input_path.py.

JPEG files in a folder, in random order, become batches uint8 [B, 224, 224, 3]: of each photo a
random part of 8 to 100 % of the area and an aspect of 3/4 to 4/3, brought to the size with
antialiasing, and half of them mirrored. Nothing but the standard library is imported until a loader
asks for it, for their packages need not be installed in one environment.

    python experiments/input_loaders.py convnets FOLDER WORKERS BATCH_SIZE BATCHES
"""

import importlib.metadata
import importlib.util
import json
import math
import os
import random
import sys
import time
from pathlib import Path

PARTS = 5  # of a measurement, timed one by one
SIDE = 224
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)


def load_with_convnets(paths, workers, batch_size):
    """`convnets.batches`; the flip, which `fit` leaves to the device, is OpenCV's here."""
    import cv2
    import numpy as np

    import convnets
    from convnets.data import FileSource, random_resized_crop

    source = FileSource(paths, range(len(paths)), (SIDE, SIDE, 3), resize=True)
    reader = convnets.batches(source, batch_size, workers=workers, crop=random_resized_crop)
    rng = np.random.default_rng(0)

    def flip(batch):
        images = batch["image"]
        for index in np.flatnonzero(rng.random(len(images)) < 0.5):
            images[index] = cv2.flip(images[index], 1)
        return images

    return convnets.prefetch(reader, flip)(0)


def load_with_torch(paths, workers, batch_size):
    """`DataLoader` over Pillow's decoder and resize, which is what torchvision's transforms do."""
    import torch
    from torch.utils.data import DataLoader

    # As in its workers. Threads that copy a batch together wait for each other in a loop, which on
    # cores that are busy takes more time than they save.
    torch.set_num_threads(1)
    photos = TorchPhotos(paths)
    loader = DataLoader(photos, batch_size, shuffle=True, num_workers=workers, drop_last=True)
    return (images for images, _ in loader)


class TorchPhotos:
    """A map-style data set, as PyTorch's tutorials have it."""

    def __init__(self, paths):
        # Long enough that no epoch ends, and no worker starts anew, within a measurement.
        self.paths = paths * math.ceil(100_000 / len(paths))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        import numpy as np
        import torch
        from PIL import Image

        with Image.open(self.paths[index]) as opened:
            image = opened.convert("RGB")
        part = image.crop(choose_part(*image.size)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        if random.random() < 0.5:
            part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(part)), 0


def choose_part(width, height):
    """`(left, top, right, bottom)`, as torchvision's `RandomResizedCrop` chooses it."""
    for _ in range(10):
        pixels = height * width * random.uniform(*AREA)
        ratio = math.exp(random.uniform(*map(math.log, ASPECT)))
        columns, rows = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            left, top = random.randint(0, width - columns), random.randint(0, height - rows)
            return left, top, left + columns, top + rows
    return 0, 0, width, height


def load_with_tensorflow(paths, workers, batch_size):
    """`tf.data` with as many threads as cores, which decodes no more than the part."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    def load(path):
        data = tf.io.read_file(path)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(data),
            bounding_boxes=tf.zeros([1, 0, 4]),
            area_range=AREA,
            aspect_ratio_range=ASPECT,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], size[:2]], axis=0)
        image = tf.io.decode_and_crop_jpeg(data, window, channels=3)
        image = tf.image.resize(image, (SIDE, SIDE), antialias=True)
        image = tf.image.random_flip_left_right(image)
        return tf.saturate_cast(tf.round(image), tf.uint8)

    cores = len(os.sched_getaffinity(0))
    dataset = tf.data.Dataset.from_tensor_slices(paths).repeat().shuffle(len(paths))
    dataset = dataset.map(load, num_parallel_calls=cores).batch(batch_size).prefetch(2)
    return (batch.numpy() for batch in dataset)


LOADERS = {
    "convnets": load_with_convnets,
    "torch": load_with_torch,
    "tensorflow": load_with_tensorflow,
}


def main(name: str, folder: str, workers: str, batch_size: str, batches: str) -> None:
    """Prints the images per second of each part as JSON; or what is missing."""
    if importlib.util.find_spec(name) is None:
        print(json.dumps({"missing": f"{name} is not installed for {sys.executable}"}))
        return
    paths = sorted(str(path) for path in Path(folder).glob("*.jpg"))
    loader = LOADERS[name](paths, int(workers), int(batch_size))
    for _ in range(3 + 4 * int(workers)):  # more than was read ahead while it started
        next(loader)
    rates = []
    for _ in range(PARTS):
        begin = time.perf_counter()
        for _ in range(int(batches)):
            images = next(loader)
        rates.append(round(int(batches) * int(batch_size) / (time.perf_counter() - begin)))
    loader.close()  # and the processes behind it
    assert tuple(images.shape) == (int(batch_size), SIDE, SIDE, 3)
    assert str(images.dtype).endswith("uint8")
    packages = [name, "tensorflow-cpu"] if name == "tensorflow" else [name]
    print(json.dumps({"images_per_second": rates, "version": _version(packages)}))


def _version(packages):
    for package in packages:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
