"""The embedded data set: 1,797 handwritten digits that come with scikit-learn."""

import numpy as np

from .dataset import Dataset
from .sources import ArraySource
from .splitting import split_indices

TEST_SHARE = 0.2


def load_digits() -> Dataset:
    """scikit-learn's digits, brought to the looks of MNIST: uint8 `[N, 28, 28, 1]`, ten classes.

    The 8x8 images (values 0 to 16) are enlarged to 20x20 by bicubic interpolation and placed in
    28x28 with their center of mass in the middle, as MNIST's digits were. A fixed stratified fifth
    is the test split, 359 images.

    Reference: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI); the
    placement: LeCun et al. 1998, section III.A.
    """
    from sklearn import datasets

    raw = datasets.load_digits()
    source = ArraySource(np.stack([_enlarge(image) for image in raw.images]), raw.target)
    stay, apart = split_indices(source.labels, TEST_SHARE)
    names = tuple(str(name) for name in raw.target_names)
    return Dataset("digits", source.select(stay), None, source.select(apart), names)


def _enlarge(image):
    import cv2

    large = cv2.resize(
        image.astype(np.float32) * (255 / 16), (20, 20), interpolation=cv2.INTER_CUBIC
    )
    large = np.clip(np.rint(large), 0, 255)
    rows, columns = np.indices(large.shape)
    # Where the box begins so that the center of mass comes to lie on pixel 14; at most 8 pixels
    # are free.
    top = round(14 - float((rows * large).sum() / large.sum()))
    left = round(14 - float((columns * large).sum() / large.sum()))
    top, left = min(max(top, 0), 8), min(max(left, 0), 8)
    canvas = np.zeros((28, 28, 1), np.uint8)
    canvas[top : top + 20, left : left + 20, 0] = large
    return canvas
