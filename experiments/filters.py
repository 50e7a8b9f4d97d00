"""Auto-encoders, ICA and a Boltzmann machine learn edges from photos: Gabor functions.

Command:    python experiments/filters.py --data-dir DIR           (DIR holds photos, *.jpg)
Hardware:   see results/filters.json
Minutes:    see there
Reference:  Olshausen, Field 1996; Bell, Sejnowski 1997; Vincent et al. 2010, figure 5; Le et al.
            2011, figure 1; Krizhevsky, Hinton 2009, figure 1.6: filters like those of V1
Ours:       see the table and the figure of README.md, made from results/filters.json

Gray patches of 12x12 pixels, each less its mean, whitened by ZCA. Of every filter the Gabor
function nearest to it is sought (`visualize.fit_gabor`); how much of the filter's variance it
explains says how much of an edge or a bar the filter is. "patches" are patches of the same whitened
images themselves, and "noise" filters of random numbers. The Boltzmann machine is slow: at a rate
of 0.003 its filters still spread over the patch after as many steps. What is archived was learned
from 1,000 photos, one of each class of ImageNet, of 256 pixels on the short side.
"""

import dataclasses
import statistics
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import Common, run_cases, run_from_shell
from pictures import pack, tile, unpack
from tables import format_table, origin

import convnets
from convnets import unsupervised
from convnets.data import read_image
from convnets.layers import Conv, relu

NAME = "filters"
SIZE = 12
LIKE = 0.7  # a filter is Gabor-like if a Gabor function explains so much of its variance
SHOWN = 36


def linear(x):
    return x


def sparse_autoencoder(features: int):
    """`‖W h - x‖² + λ sum |h|` with `h = Wᵀ x`."""
    model = unsupervised.DenseAutoencoder((features,), activation=linear, tied=True)
    return model, unsupervised.reconstruction_loss(model, sparsity=1.5)


def reconstruction_ica(features: int):
    filters = Conv(features, SIZE, padding=0, use_bias=False)  # as large as the patches
    model = unsupervised.ReconstructionICA(filters)
    return model, unsupervised.reconstruction_ica_loss(model, 1.5)


def denoising_autoencoder(features: int):
    model = unsupervised.DenseAutoencoder((features,), activation=relu, tied=True)
    corrupt = partial(unsupervised.add_gaussian_noise, deviation=1.5)  # twice that of patches
    return model, unsupervised.reconstruction_loss(model, corrupt=corrupt)


def machine(features: int):
    model = unsupervised.RBM(features, visible="gaussian")
    louder = convnets.Normalization(std=(1 / 1.3,))  # beside visible units of deviation 1
    return model, unsupervised.contrastive_divergence_loss(model, normalization=louder)


@dataclasses.dataclass(frozen=True)
class Learner:
    """What learns: from the number of filters to a model and its loss, and how fast."""

    create: object
    learning_rate: float


LEARNERS = {
    "sparse auto-encoder": Learner(sparse_autoencoder, 0.01),
    "reconstruction ICA": Learner(reconstruction_ica, 0.01),
    "denoising auto-encoder": Learner(denoising_autoencoder, 0.01),
    "Boltzmann machine": Learner(machine, 0.02),
}
OTHERS = ("patches", "noise")


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Learn filters from whitened patches of photos, and fit Gabor functions to them."""

    features: int = 100
    patches: int = 100_000
    steps: int = 8000
    batch_size: int = 128
    seeds: tuple[int, ...] = (0,)


def main(config: Config) -> None:
    used = config
    if config.quick:
        used = dataclasses.replace(config, features=2, patches=200, steps=3, batch_size=20)
    elif config.data_dir is None:
        raise convnets.UserError("--data-dir names the folder with the photos")
    patches = read_patches(used)
    cases = [{"learner": name, "seed": seed} for seed in used.seeds for name in names(config)]
    run_cases(NAME, config, cases, lambda case, folder: run(used, patches, **case))


def names(config: Config):
    every = (*LEARNERS, *OTHERS)
    return every[::3] if config.quick else every


def read_patches(config: Config) -> np.ndarray:
    """Whitened patches `[N, 12, 12, 1]`; of noise for --quick."""
    rng = np.random.default_rng(0)
    if config.quick:
        pixels = rng.normal(size=(config.patches, SIZE, SIZE, 1)).cumsum(1).cumsum(2)
    else:
        paths = sorted(Path(config.data_dir).glob("*.jpg"))
        if not paths:
            raise convnets.UserError(f"{config.data_dir} holds no photos, *.jpg")
        each = -(-config.patches // len(paths))
        pixels = np.concatenate([cut(read_gray(path), each, rng) for path in paths])
        pixels = rng.permutation(pixels)[: config.patches]
    pixels = pixels - pixels.mean((1, 2), keepdims=True)
    epsilon = 0.1 * pixels.var()  # directions far below are noise, of the compression too
    return unsupervised.fit_whitening(pixels, epsilon=epsilon).apply(np.float32(pixels))


def read_gray(path) -> np.ndarray:
    image = read_image(path, (240, 240, 3)).astype(np.float32) / 255
    return image @ np.float32([0.299, 0.587, 0.114])


def cut(image, count: int, rng) -> np.ndarray:
    """So many patches of an image, anywhere."""
    rows, columns = rng.integers(0, np.array(image.shape)[:, None] - SIZE, (2, count))
    return np.stack([image[i : i + SIZE, j : j + SIZE, None] for i, j in zip(rows, columns)])


def run(config: Config, patches, learner: str, seed: int) -> dict:
    """The filters of one learner, and how much of each a Gabor function explains."""
    rng, count = np.random.default_rng(seed), config.features
    if learner == "patches":
        filters, unexplained = rng.choice(patches, count)[..., 0], None
    elif learner == "noise":
        filters, unexplained = rng.normal(size=(count, SIZE, SIZE)), None
    else:
        filters, unexplained = learn(config, patches, LEARNERS[learner], seed)
    explained = [convnets.visualize.fit_gabor(kernel).explained for kernel in filters]
    return {
        "unexplained": unexplained,
        "explained": [round(x, 4) for x in explained],
        "filters": pack(filters[:SHOWN]),
    }


def learn(config: Config, patches, learner: Learner, seed: int):
    """Filters `[features, 12, 12]`, and what of patches they leave unexplained."""
    model, loss_fn = learner.create(config.features)
    variables = model.init(jax.random.key(seed), jnp.asarray(patches[:1]), train=False)
    rate = convnets.create_schedule("cosine", learner.learning_rate, config.steps)
    optimizer, rng = optax.adam(rate), np.random.default_rng(seed)
    state = convnets.TrainState.create(variables, optimizer, jax.random.key(seed))

    def batches():
        while True:
            yield {"image": patches[rng.integers(0, len(patches), config.batch_size)]}

    step = convnets.make_step(loss_fn, optimizer)
    *_, (_, state, measured) = convnets.train(step, state, batches(), stop=config.steps)
    (kernel,) = (x for x in jax.tree.leaves(state.params) if x.ndim > 1)
    filters = np.asarray(kernel).reshape(SIZE, SIZE, -1)
    unexplained = convnets.metrics.finish(measured)["unexplained"]
    return np.moveaxis(filters, 2, 0), round(unexplained, 4)


def table(archive: dict) -> str:
    """The table of README.md."""
    rows = [("filters of", "explained by a Gabor function, median", f"{100 * LIKE:.0f} % or more")]
    for line in archive["results"]:
        found = line["explained"]
        share = sum(x >= LIKE for x in found) / len(found)
        row = (line["learner"], f"{100 * statistics.median(found):.0f} %", f"{100 * share:.0f} %")
        rows.append(row)
    count = archive["settings"]["features"]
    return (
        f"{format_table(rows)}\n\n{origin(archive, '--data-dir DIR')} {count} filters of "
        f"{SIZE}x{SIZE} each, of one seed, from 1,000 photos, one of each class of ImageNet; the "
        "last column is the share of filters of which a Gabor function explains so much."
    )


def figure(archive: dict):
    """Filters of every learner."""
    import matplotlib.pyplot as plt

    lines = archive["results"]
    drawn, axes = plt.subplots(
        1, len(lines), figsize=(2 * len(lines), 2.3), layout="constrained", squeeze=False
    )
    for axis, line in zip(axes[0], lines):
        axis.imshow(tile(unpack(line["filters"]), 6), cmap="gray", interpolation="nearest")
        axis.set_title(line["learner"], fontsize=8)
        axis.set_axis_off()
    return drawn


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
