"""How much a filter is an edge or a bar: Gabor functions fitted to it, and how it is tuned."""

from typing import NamedTuple

import numpy as np

from ..errors import UserError


class GaborFit(NamedTuple):
    """A Gabor function, and how much of a filter's variance it explains.

    Attributes:
      amplitude: of the wave under the window's center, at least 0.
      row, column: the center, in pixels from the filter's first one.
      orientation: of the wave's direction, across its bars, in radians in [0, pi): 0 along a row
        (upright bars), pi / 2 down a column.
      frequency: waves a pixel, at least 0.
      phase: radians in (-pi, pi], at the center; 0 for a bright bar, ± pi / 2 for an edge.
      length, width: deviations of the Gaussian window in pixels, along the bars and across.
      explained: 1 for a filter that is this function, 0 for one that it does not help to describe.
    """

    amplitude: float
    row: float
    column: float
    orientation: float
    frequency: float
    phase: float
    length: float
    width: float
    explained: float = 1.0


def evaluate_gabor(gabor: GaborFit, size) -> np.ndarray:
    """The function at the pixels of a filter of `(H, W)`.

    `a exp(-(u² / width² + v² / length²) / 2) cos(2 pi f u + phase)`, where `u` goes from the center
    across the bars and `v` along them.

    Reference: Daugman 1985, "Uncertainty relation for resolution in space, spatial frequency, and
    orientation optimized by two-dimensional visual cortical filters".

    >>> evaluate_gabor(GaborFit(2.0, 1, 1, 0.0, 0.25, 0.0, 9.0, 9.0), (3, 3))[1, 1].item()
    2.0
    """
    return _gabor(np.array(gabor[:8]), size)


def fit_gabor(kernel) -> GaborFit:
    """The Gabor function nearest to a filter by squared error.

    Args:
      kernel: `[H, W]`, or `[H, W, C]`, whose channels are averaged; at least 3x3.

    Raises: UserError for a filter of another shape, one that is constant, or not finite.

    >>> true = GaborFit(1.0, 5.2, 4.6, 0.7, 0.15, 1.0, 2.5, 2.0)
    >>> found = fit_gabor(evaluate_gabor(true, (11, 11)))
    >>> bool(np.allclose(found[:8], true[:8], atol=1e-3)), round(found.explained, 3)
    (True, 1.0)
    """
    from scipy.optimize import least_squares

    kernel = np.asarray(kernel, np.float64)
    kernel = kernel.mean(2) if kernel.ndim == 3 else kernel
    if kernel.ndim != 2 or min(kernel.shape) < 3:
        raise UserError(f"expected a filter [H, W] of at least 3x3, came {kernel.shape}")
    if not np.isfinite(kernel).all():
        raise UserError("the filter has values that are not finite")
    size = np.abs(kernel).max()
    if np.ptp(kernel) <= 1e-12 * size:
        raise UserError("the filter is constant: there is no wave to fit")
    kernel = kernel / size
    spread = np.square(kernel - kernel.mean()).sum()
    longest = max(kernel.shape)
    low = np.array([0, -1, -1, -np.inf, 0, -np.inf, 0.3, 0.3])
    high = np.array(
        [np.inf, kernel.shape[0], kernel.shape[1], np.inf, 0.5, np.inf, longest, longest]
    )
    found = [
        least_squares(
            lambda gabor: (_gabor(gabor, kernel.shape) - kernel).ravel(),
            np.clip(start, low + 1e-6, high - 1e-6),
            bounds=(low, high),
            x_scale=np.array([1, 1, 1, 0.3, 0.05, 0.5, 1, 1]),
        )
        for start in _starts(kernel)
    ]
    best = min(found, key=lambda fit: fit.cost)
    best.x[0] *= size
    return _normal_form(best.x, max(0.0, 1 - 2 * best.cost / spread))


def tuning_curve(kernel, frequency: float, orientations) -> np.ndarray:
    """How strongly a filter answers to gratings of several orientations, at the best phase of each.

    Args:
      kernel: `[H, W]`, or `[H, W, C]`, whose channels are averaged.
      frequency: of the gratings, in waves a pixel.
      orientations: of their direction across the bars, `[N]`, in radians.

    Returns: `[N]`, at least 0: the largest response over all phases to a grating of amplitude 1.

    >>> bars = np.cos(2 * np.pi * 0.25 * np.arange(8))[None].repeat(8, 0)
    >>> tuning_curve(bars, 0.25, [0.0, np.pi / 2]).round(3).tolist()
    [32.0, 0.0]
    """
    kernel = np.asarray(kernel, np.float64)
    kernel = kernel.mean(2) if kernel.ndim == 3 else kernel
    rows, columns = np.indices(kernel.shape)
    angles = np.asarray(orientations, np.float64).reshape(-1, 1, 1)
    along = np.cos(angles) * columns[None] + np.sin(angles) * rows[None]
    return np.abs((kernel[None] * np.exp(2j * np.pi * frequency * along)).sum((1, 2)))


def plot_tuning(orientations, responses, *, title: str = ""):
    """A `tuning_curve` as a matplotlib figure.

    Args:
      orientations: `[N]`, in radians; drawn in degrees.
      responses: `[N]`, or name of a filter -> `[N]`, for several in one figure.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4.5, 2.6), layout="constrained")
    named = responses if isinstance(responses, dict) else {"": responses}
    for name, curve in named.items():
        axes.plot(np.degrees(orientations), curve, label=name)
    axes.set(xlabel="orientation of a grating [degrees]", ylabel="response", title=title)
    if any(named):
        axes.legend()
    return figure


def _gabor(gabor, size):
    amplitude, row, column, orientation, frequency, phase, length, width = gabor
    rows, columns = np.indices(size)
    rows, columns = rows - row, columns - column
    across = np.cos(orientation) * columns + np.sin(orientation) * rows
    along = -np.sin(orientation) * columns + np.cos(orientation) * rows
    window = np.exp(-0.5 * (np.square(across / width) + np.square(along / length)))
    return amplitude * window * np.cos(2 * np.pi * frequency * across + phase)


def _starts(kernel, waves: int = 3):
    """Where to begin: at the strongest waves of the spectrum, around the center of the energy."""
    energy = np.square(kernel) / np.square(kernel).sum()
    rows, columns = np.indices(kernel.shape)
    row, column = (energy * rows).sum(), (energy * columns).sum()
    spread = np.sqrt((energy * (np.square(rows - row) + np.square(columns - column))).sum() / 2)
    padded = 4 * max(kernel.shape)
    spectrum = np.fft.fft2(kernel, (padded, padded))
    frequencies = np.fft.fftfreq(padded)
    power = np.abs(spectrum)
    power[frequencies < 0] = 0  # the other half is the same
    for _ in range(waves):
        place = np.unravel_index(power.argmax(), power.shape)
        down, right = frequencies[place[0]], frequencies[place[1]]
        phase = np.angle(spectrum[place]) + 2 * np.pi * (down * row + right * column)
        yield np.array(
            [
                np.abs(kernel).max(), row, column, np.arctan2(down, right), np.hypot(down, right),
                phase, max(spread, 0.5), max(spread, 0.5),
            ]
        )  # fmt: skip
        power[
            np.ix_(
                np.abs(frequencies - down) < 1.5 / max(kernel.shape),
                np.abs(frequencies - right) < 1.5 / max(kernel.shape),
            )
        ] = 0


def _normal_form(gabor, explained):
    """The same function with its angles in their ranges."""
    amplitude, row, column, orientation, frequency, phase, length, width = map(float, gabor)
    half_turns = np.floor(orientation / np.pi)
    if half_turns % 2:  # the wave runs the other way
        phase = -phase
    phase = -((-phase + np.pi) % (2 * np.pi) - np.pi)
    return GaborFit(
        amplitude, row, column, float(orientation - half_turns * np.pi), frequency, float(phase),
        length, width, float(explained),
    )  # fmt: skip
