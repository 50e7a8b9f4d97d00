"""A network of a billion parameters makes an update, no device of which holds more than an eighth.

Command:    python experiments/billion_parameters.py
            python experiments/billion_parameters.py --photos DIR      (DIR holds photos, *.jpg)
Hardware:   see results/billion_parameters.json, and there `peak_bytes` for the memory
Minutes:    see there; compiled programs of one run before were found in the cache
Reference:  Le et al. 2012, "Building high-level features using large scale unsupervised learning":
            a billion parameters on 1,000 machines of 16 cores, a model over 169 of them
Ours:       see the table of README.md, made from results/billion_parameters.json

`convnets.unsupervised.LocalAutoencoder` over eight devices of the host, an eighth of its filters on
each: created in parts, one update by plain gradient descent, the loss of the same photos again. The
memory is the largest that the process ever had. The same update of a smaller network is compared
with that of one device, and one of the size between is trained by Adam on photos of 48x48 pixels,
over two devices; its errors are those of photos that it was not trained on.

The photos are one of each of ImageNet's 1,000 classes, the shorter side 256 (of
github.com/EliSchwartz/imagenet-sample-images), in data/imagenet_sample_1000/images below
CONVNETS_SHARED; or others.
"""

import dataclasses
import os
import resource
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import Common, make_devices, run_cases, run_from_shell
from tables import format_table, origin

import convnets
from convnets import parallel
from convnets.data import read_image
from convnets.unsupervised import LocalAutoencoder, LocalStage, local_reconstruction_loss

NAME = "billion_parameters"
DEVICES = 8
SAMPLE = "imagenet_sample_1000"
NORMALIZATION = convnets.Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HELD_OUT = 10  # every tenth photo is not trained on


def smaller(filter_size: int, padding: int) -> LocalAutoencoder:
    """The network with filters of another size."""
    stage = partial(LocalStage, filter_size=filter_size)
    behind = partial(stage, padding=padding)
    return LocalAutoencoder((partial(stage, pool_stride=2), behind, behind))


NETWORKS = {  # and the sides of their images
    "compared": (smaller(9, 2), 40),
    "trained": (smaller(8, 2), 48),
    "billion": (LocalAutoencoder(), 200),
}


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Make one update of a billion parameters, compare a smaller one, train one on photos."""

    photos: str = SAMPLE
    """The sample, found below CONVNETS_SHARED, or a folder with *.jpg."""
    batch_size: int = 1
    """Photos in the one update."""
    rate: float = 2.0
    """Of the one update; gradients are of a mean over all values of a photo."""
    steps: int = 300
    training_batch_size: int = 16
    training_rate: float = 0.001


def main(config: Config) -> None:
    make_devices(DEVICES)
    networks, used = NETWORKS, config
    if config.quick:
        networks = {name: (smaller(6, 1), 24) for name in NETWORKS}
        used = dataclasses.replace(config, steps=2, training_batch_size=4)
    else:
        find_photos(config)  # too few are refused before anything is computed
    run = {"billion": update_once, "compared": compare, "trained": train}
    cases = [{"network": name} for name in networks]
    run_cases(
        NAME,
        config,
        cases,
        lambda case, folder: run[case["network"]](used, *networks[case["network"]]),
    )


def find_photos(config: Config) -> list[Path]:
    """The files, sorted by name.

    Raises: UserError for fewer than are needed for a batch of held-out photos, or for the update.
    """
    shared = Path(os.environ.get("CONVNETS_SHARED", ""), "data", SAMPLE, "images")
    folder = shared if config.photos == SAMPLE else Path(config.photos)
    paths = sorted(folder.glob("*.jpg"))
    needed = max(HELD_OUT * config.training_batch_size, config.batch_size)
    if len(paths) < needed:
        raise convnets.UserError(
            f"{folder} holds {len(paths)} photos, *.jpg, and {needed} are needed: name a folder by "
            f"--photos DIR, or the one above data/{SAMPLE} by CONVNETS_SHARED"
        )
    return paths


def read_photos(config: Config, side: int, count: int | None = None) -> np.ndarray:
    """The first photos, uint8 `[N, side, side, 3]`; noise for --quick."""
    if config.quick:
        return np.random.default_rng(0).integers(0, 256, (count or 40, side, side, 3), np.uint8)
    paths = find_photos(config)[:count]
    return np.stack([read_image(path, (side, side, 3)) for path in paths])


def create(network, side: int, optimizer) -> convnets.TrainState:
    variables = network.init(jax.random.key(0), jnp.zeros((1, side, side, 3)), train=False)
    return convnets.TrainState.create(variables, optimizer, jax.random.key(1))


def compile_for(network, side: int, optimizer, mesh):
    """The first state, in parts, and the compiled steps of training and evaluation."""
    loss_fn = local_reconstruction_loss(network, normalization=NORMALIZATION)
    create_state = parallel.create_sharded(partial(create, network, side, optimizer), mesh)
    step = parallel.compile(convnets.make_step(loss_fn, optimizer), mesh=mesh)
    evaluate = parallel.compile(convnets.make_eval_step(loss_fn), mesh=mesh, donate=False)
    return create_state(), step, evaluate


def update_once(config: Config, network, side: int) -> dict:
    """One update, and what every device holds."""
    batch = {"image": read_photos(config, side, config.batch_size)}
    mesh = parallel.create_mesh(DEVICES, model=DEVICES)
    begin = time.monotonic()
    state, step, evaluate = compile_for(network, side, optax.sgd(config.rate), mesh)
    jax.block_until_ready(state)
    created = time.monotonic()
    held = parallel.bytes_per_device(state)
    found = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "devices": len(held),
        "bytes_per_device": max(held.values()),
        "creation_seconds": round(created - begin, 1),
    }
    print(f"{found['parameters']:,} parameters; bytes on each device: {held}", flush=True)
    state, before = jax.block_until_ready(step(state, batch))
    found["update_seconds"] = round(time.monotonic() - created, 1)
    found["peak_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    after = evaluate(state, batch)
    return found | {"before": finish(before), "after": finish(after)}


def compare(config: Config, network, side: int) -> dict:
    """The largest difference between the updates of eight devices and of one, over the largest
    change that one makes, among all parameters."""
    batch = {"image": read_photos(config, side, config.batch_size)}
    meshes = {n: parallel.create_mesh(n, model=n) for n in (1, DEVICES)}
    changes, losses = {}, {}
    for number, mesh in meshes.items():
        state, step, _ = compile_for(network, side, optax.sgd(config.rate), mesh)
        first = parallel.gather(state.params)
        state, measured = step(state, batch)
        changes[number] = jax.tree.map(np.subtract, parallel.gather(state.params), first)
        losses[number] = finish(measured)["loss"]
    one, many = (jax.tree.leaves(changes[number]) for number in meshes)
    pairs = [(np.abs(a - b).max(), np.abs(a).max()) for a, b in zip(one, many)]
    return {
        "parameters": sum(leaf.size for leaf in one),
        "difference": float(max(difference / largest for difference, largest in pairs)),
        "losses": [losses[number] for number in meshes],
    }


def train(config: Config, network, side: int) -> dict:
    """What of the photos stays unexplained, in training and of photos that are held out."""
    photos = read_photos(config, side)
    held_out = np.arange(len(photos)) % HELD_OUT == 0
    mesh = parallel.create_mesh(2, model=2)
    optimizer = optax.adam(config.training_rate)
    state, step, evaluate = compile_for(network, side, optimizer, mesh)
    rng, size = np.random.default_rng(0), config.training_batch_size

    def batches():
        while True:
            order = rng.permutation(np.flatnonzero(~held_out))
            for start in range(0, len(order) - size + 1, size):
                yield {"image": photos[order[start : start + size]]}

    def test(state):
        parts = np.array_split(photos[held_out], max(1, held_out.sum() // size))
        return convnets.evaluate(evaluate, state, [{"image": part} for part in parts])

    found = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "photos": int((~held_out).sum()),
        "before": test(state),
    }
    curve = []
    steps = convnets.train(step, state, batches(), stop=config.steps)
    for number, state, measured in steps:  # noqa: B007
        if number % max(1, config.steps // 20) == 0:
            curve.append([number, finish(measured)["unexplained"]])
            print(*curve[-1], flush=True)
    return found | {"after": test(state), "curve": curve}


def finish(measured) -> dict:
    return {name: float(f"{x:.6g}") for name, x in convnets.metrics.finish(measured).items()}


def table(archive: dict) -> str:
    """The table of README.md."""
    found = {line["network"]: line for line in archive["results"]}
    billion, trained = found["billion"], found["trained"]
    rows = [
        ("local filters, three stages", "parameters", "loss before", "after"),
        (
            f"one update over {billion['devices']} devices",
            f"{billion['parameters']:,}",
            f"{billion['before']['loss']:.3f}",
            f"{billion['after']['loss']:.3f}",
        ),
        (
            f"{archive['settings']['steps']} steps on {trained['photos']:,} of "
            f"{trained['photos'] + trained['after']['examples']:,} photos, held-out photos",
            f"{trained['parameters']:,}",
            f"{trained['before']['loss']:.3f}",
            f"{trained['after']['loss']:.3f}",
        ),
    ]
    note = (
        f"The photos are {Path(archive['settings']['photos']).name}. "
        f"A billion parameters: {billion['bytes_per_device'] / 2**20:,.0f} MiB on each device, "
        f"{billion['peak_bytes'] / 2**30:.1f} GiB of memory at most. The update of "
        f"{found['compared']['parameters']:,} parameters is that of one device to "
        f"{found['compared']['difference']:.0e} of its largest change. Of the held-out photos "
        f"{100 * trained['before']['unexplained1']:.0f} % were unexplained before, "
        f"{100 * trained['after']['unexplained1']:.1f} % after."
    )
    return f"{format_table(rows)}\n\n{origin(archive)} {note}"


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
