"""Among units that learned from patches without labels, one tells faces from all else.

Command:    python experiments/face_neuron.py --data-dir DIR   (DIR holds faces_vs_nonfaces.npz)
Hardware:   see results/face_neuron.json
Minutes:    see there
Reference:  Le et al. 2012, section 5: the best neuron tells 37,000 images with an accuracy of
            81.7 %, the best of a random network 67 %, the best linear filter 74 %; guessing 64.8 %
Ours:       see the table and the figure of README.md, made from results/face_neuron.json

The local auto-encoder of `billion_parameters.py` in small, one stage of filters of 18x18, sees gray
patches of 36x36, each with mean 0 and deviation 1; half of those it learns from are faces, which it
is not told. A unit is any linear code, pool or normalized pool. Of each network the one is taken
whose best threshold tells most of the training patches, and is measured with that threshold on
patches held out: the mean of its accuracies on faces and on the rest, of which 50 % is guessing. So
are "random weights", the same network before training; many such networks together; and pixels: as
they are, after local contrast normalization, and of patches with mean 0 and deviation 1. Each seed
holds out another quarter of the pictures in their order, in which those of one person, about 20,
follow each other; the 25 before it and after it are not learned from, so that nobody is in both.
Settings were chosen by the accuracy on training patches, and by a best input without noise, with
other pictures held out; they were not changed for these.
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
from convnets.ops import local_contrast_normalization
from convnets.unsupervised import LocalAutoencoder, LocalStage, local_reconstruction_loss

NAME = "face_neuron"
QUARTERS = 4
GAP = 25  # pictures; of one person there are about 20, one after the other
FLOOR = 0.02  # the least contrast that is divided by
NETWORK = LocalAutoencoder(
    (partial(LocalStage, features=1, filter_size=18, stride=9, pool=1, contrast=3),)
)
NAMES = {
    "learned": "unit, learned without labels",
    "random": "unit, random weights",
    "many": "unit, random weights, of many such networks",
    "normalized": "pixel of a normalized patch",
    "local": "pixel, contrast normalized locally",
    "pixel": "pixel",
}


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Learn from patches half of which are faces, and look for the unit that tells them."""

    seeds: tuple[int, ...] = (0, 1, 2, 3)
    steps: int = 400
    batch_size: int = 64
    learning_rate: float = 0.01
    sparsity: float = 0.02
    weight_decay: float = 2.0
    """Which takes away what is left in filters of the random ones that they began with."""
    networks: int = 200
    """Networks with random weights among whose units together the best is sought too."""


def main(config: Config) -> None:
    used = config
    if config.quick:
        used = dataclasses.replace(config, seeds=(0,), steps=4, batch_size=8, networks=2)
    elif config.data_dir is None:
        raise convnets.UserError("--data-dir names the folder of faces_vs_nonfaces.npz")
    patches = read_patches(config)
    cases = [{"seed": seed} for seed in used.seeds]
    run_cases(NAME, config, cases, lambda case, folder: run(used, *patches, **case))


def read_patches(config: Config):
    """Images in [0, 1] `[N, 36, 36, 1]`, which are faces, and the numbers of their pictures; noise
    with a brighter middle for --quick."""
    if config.quick:
        rng = np.random.default_rng(0)
        images, faces = rng.uniform(size=(80, 36, 36, 1)), np.arange(80) < 30
        images[faces, 9:27, 9:27] += 1
        return np.float32(images / 2), faces, 4 * np.arange(80)
    path = Path(config.data_dir) / "faces_vs_nonfaces.npz"
    try:
        with np.load(path) as file:
            images = np.float32(file["images"][..., None]) / 255
            return images, file["labels"] == 1, file["source_number"]
    except (OSError, KeyError, ValueError) as error:
        raise convnets.UserError(f"{path} cannot be read: {error}") from None


def run(config: Config, images, faces, numbers, seed: int) -> dict:
    """What each kind of unit tells on held-out patches."""
    seen, held_out = split(faces, numbers, seed)
    inputs = normalize(images)
    variables = init(jax.random.key(seed), inputs[:1])
    trained, unexplained = train(config, variables, inputs, faces, seen, seed)
    responses = {
        "learned": respond(trained, inputs),
        "random": respond(variables, inputs),
        "many": respond_at_random(config.networks, inputs, seed),
        "normalized": inputs,
        "local": normalize_locally(images),
        "pixel": images,
    }
    found = {name: tell(x, faces, seen, held_out) for name, x in responses.items()}
    best = responses["learned"].reshape(len(images), -1)[:, found["learned"]["unit"]]
    order = np.flatnonzero(held_out)[np.argsort(-found["learned"]["sign"] * best[held_out])]
    return {
        "unexplained": unexplained,
        **found,
        "faces_among_the_strongest_16": int(faces[order[:16]].sum()),
        "strongest": pack(images[order[:16], ..., 0]),
        "best_input": pack(best_input(trained, found["learned"])[None]),
    }


def split(faces, numbers, seed: int):
    """Which patches are learned from and which are held out, of each kind: the pictures of the
    seed's quarter are held out, and those at most GAP pictures from it are neither."""
    seen, held_out = np.zeros((2, len(faces)), bool)
    for kind in (True, False):
        pictures = np.unique(numbers[faces == kind])
        quarter = np.array_split(pictures, QUARTERS)[seed % QUARTERS]
        first, last = quarter[0], quarter[-1]
        held_out |= (faces == kind) & (first <= numbers) & (numbers <= last)
        seen |= (faces == kind) & ((numbers < first - GAP) | (numbers > last + GAP))
    return seen, held_out


def normalize(images):
    """Patches with mean 0 and deviation 1; those of less contrast than the floor stay less."""
    centered = images - images.mean((1, 2, 3), keepdims=True)
    return centered / np.maximum(centered.std((1, 2, 3), keepdims=True), FLOOR)


def train(config: Config, variables, inputs, faces, seen, seed: int):
    """The variables after training on patches half of which are faces, and what is unexplained."""
    loss_fn = local_reconstruction_loss(NETWORK, sparsity=config.sparsity)
    rate = convnets.create_schedule("cosine", config.learning_rate, config.steps)
    optimizer = optax.adamw(rate, weight_decay=config.weight_decay)
    step = convnets.make_step(loss_fn, optimizer)
    state = convnets.TrainState.create(variables, optimizer, jax.random.key(seed))
    kinds = [np.flatnonzero(seen & (faces == kind)) for kind in (True, False)]
    rng = np.random.default_rng(seed)

    def batches():
        while True:
            chosen = [rng.choice(kind, config.batch_size // 2) for kind in kinds]
            yield {"image": inputs[np.concatenate(chosen)]}

    *_, (_, state, measured) = convnets.train(step, state, batches(), stop=config.steps)
    unexplained = convnets.metrics.finish(measured)["unexplained"]
    return {"params": state.params}, round(unexplained, 4)


normalize_locally = jax.jit(
    partial(local_contrast_normalization, window=13, sigma=3.0, floor=FLOOR)
)
init = jax.jit(partial(NETWORK.init, train=False))


@jax.jit
def responses_of(variables, inputs):
    stages = NETWORK.apply(variables, inputs, train=False)
    units = [x for stage in stages for x in (stage.code, stage.pooled, stage.output)]
    return jnp.concatenate([x.reshape(len(x), -1) for x in units], 1)


def respond(variables, inputs):
    """Of each patch all units, `[N, units]`."""
    return np.asarray(responses_of(variables, inputs))


def respond_at_random(networks: int, inputs, seed: int):
    """Of each patch all units of many networks with random weights."""
    keys = jax.random.split(jax.random.key(1000 + seed), networks)
    return np.concatenate([respond(init(key, inputs[:1]), inputs) for key in keys], 1)


def tell(responses, faces, seen, held_out) -> dict:
    """The unit that tells most of the training patches at its best threshold, and what it tells of
    those held out."""
    responses = np.asarray(responses).reshape(len(faces), -1)
    learned, kinds = responses[seen], faces[seen]
    order = np.argsort(learned, axis=0, kind="stable")
    above = kinds[order]  # accuracies of "a face is what lies above the k-th value"
    right = 1 - np.cumsum(above, 0) / kinds.sum() + np.cumsum(~above, 0) / (~kinds).sum()
    accuracy = right / 2
    both = np.maximum(accuracy, 1 - accuracy)
    unit = int(both.max(0).argmax())
    place = int(both[:, unit].argmax())
    sign = 1 if accuracy[place, unit] >= 0.5 else -1
    values = np.sort(learned[:, unit])
    threshold = values[place : place + 2].mean()
    said = (responses[held_out, unit] > threshold) == (sign == 1)
    kinds = faces[held_out]
    return {
        "unit": unit,
        "sign": sign,
        "units": responses.shape[1],
        "train_accuracy": round(float(both.max()), 4),
        "test_accuracy": round(float((said[kinds].mean() + (~said[~kinds]).mean()) / 2), 4),
    }


def best_input(variables, found: dict, steps: int = 200, rate: float = 0.1):
    """The patch of length 1 that the unit responds to most, `[36, 36]`, by gradient ascent that is
    put back to that length after each step (Le et al. 2012, section 4.3)."""
    size = (1, 36, 36, 1)

    def score(x):
        return found["sign"] * responses_of(variables, x)[0, found["unit"]]

    def climb(_, x):
        slope = jax.grad(score)(x)
        x = x + rate * slope / jnp.maximum(jnp.linalg.norm(slope.ravel()), 1e-8)
        return x / jnp.linalg.norm(x.ravel())

    start = jax.random.normal(jax.random.key(0), size)
    start = start / jnp.linalg.norm(start.ravel())
    return np.asarray(jax.jit(lambda x: jax.lax.fori_loop(0, steps, climb, x))(start))[0, ..., 0]


def accuracies(archive: dict, name: str) -> list[float]:
    """On held-out patches in %, of each seed."""
    return [100 * line[name]["test_accuracy"] for line in archive["results"]]


def table(archive: dict) -> str:
    """The table of README.md."""
    rows = [("the best single", "of", "faces told from the rest", "each seed")]
    for name, title in NAMES.items():
        found = accuracies(archive, name)
        each = ", ".join(f"{x:.1f}" for x in found)
        count = archive["results"][0][name]["units"]
        rows.append((title, f"{count:,}", f"{statistics.mean(found):.1f} %", each))
    return (
        f"{format_table(rows)}\n\n{origin(archive, '--data-dir DIR')} Mean of the accuracies on "
        "faces and on the rest, held out, another quarter of the pictures for each seed; guessing "
        "is 50 %."
    )


def figure(archive: dict):
    """The strongest patches of the first seed's best unit, and its best input."""
    import matplotlib.pyplot as plt

    first = archive["results"][0]
    drawn, (left, right) = plt.subplots(
        1, 2, figsize=(7, 1.9), width_ratios=(4, 1), layout="constrained"
    )
    left.imshow(tile(unpack(first["strongest"]), 8, gap=2), cmap="gray")
    left.set_title("held-out patches that it responds to most", fontsize=9)
    right.imshow(unpack(first["best_input"])[0], cmap="gray")
    right.set_title("best input", fontsize=9)
    for axis in (left, right):
        axis.set_axis_off()
    return drawn


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
