"""Small gray pictures in an archive: bytes in hexadecimal, with a shape."""

import numpy as np


def pack(pictures) -> dict:
    """Pictures `[N, H, W]` of any numbers as bytes: 0 for the lowest of each, 255 for the highest.

    >>> pack(np.array([[[0.0, 2.0]]]))
    {'shape': [1, 1, 2], 'bytes': '00ff'}
    """
    pictures = np.asarray(pictures, np.float64)
    low, high = (f(axis=(1, 2), keepdims=True) for f in (pictures.min, pictures.max))
    scaled = 255 * (pictures - low) / np.where(high > low, high - low, 1)
    return {"shape": list(pictures.shape), "bytes": np.uint8(np.round(scaled)).tobytes().hex()}


def unpack(packed: dict) -> np.ndarray:
    """uint8 `[N, H, W]`."""
    return np.frombuffer(bytes.fromhex(packed["bytes"]), np.uint8).reshape(packed["shape"])


def tile(pictures, columns: int, gap: int = 1) -> np.ndarray:
    """Pictures `[N, H, W]` in rows beside each other, white between and after them."""
    number, height, width = pictures.shape
    rows = -(-number // columns)
    grid = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), 255, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        grid[top : top + height, left : left + width] = picture
    return grid
