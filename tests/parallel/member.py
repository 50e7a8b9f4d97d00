"""What each of several processes does in the tests of them, and what one process does instead.

python member.py FOLDER COORDINATOR COUNT INDEX
"""

import dataclasses
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import convnets
from convnets import data, parallel
from convnets.models.cifar_resnet import BLOCKS, keep, stem3x3
from convnets.models.classifier import Classifier
from convnets.models.resnet import ResNet
from convnets.ops import image
from convnets.runs import evaluate_splits
from convnets.training import gradient, update
from convnets.training.flattening import flatten

STEPS, BATCH, FIRST, LAST = 10, 24, 6, 12
RUN = {
    "batch_size": BATCH,
    "optimizer": "momentum",
    "learning_rate": 0.05,
    "schedule": "constant",
    "augment": ("flip", "translate"),
    "evaluate_every": 3,
    "log_every": 1,
    "recompute_statistics": 2,
    "ema": 0.9,
    "progress": False,
}


def small_resnet():
    """A residual net with batch norm and dropout."""
    backbone = ResNet(
        stage_sizes=(1, 1), features=8, block=BLOCKS["cifar_resnet{}"], stem=stem3x3, stem_pool=keep
    )
    return Classifier(backbone, 10, dropout=0.4)


def small_digits():
    """Digits of 8x8 pixels; 240 to train on, 40 for validation, 53, a prime number, for test."""
    whole = convnets.load_dataset("digits", image_size=8)
    train, validation = whole.train.select(np.arange(240)), whole.train.select(np.arange(240, 280))
    test = whole.test.select(np.arange(53))
    return dataclasses.replace(whole, train=train, validation=validation, test=test)


def steps(strategy="jit", devices=None, steps_per_call=1) -> dict:
    """Gradients and metrics of ten steps, and the state after them, as flat arrays."""
    model, dataset = small_resnet(), small_digits()
    loss_fn = convnets.classification_loss(
        model,
        normalization=dataset.normalization,
        augment=image.compose(image.AUGMENTATIONS["flip"], partial(image.translate, max_shift=2)),
    )
    optimizer, gradient_fn = optax.sgd(0.05, momentum=0.9), gradient(loss_fn)

    def step(state, batch):
        grads, batch_stats, metrics = gradient_fn(state, batch)
        return update(state, grads, batch_stats, optimizer, ema=0.9), (grads, metrics)

    compiled = parallel.compile(step, strategy, devices=devices, steps_per_call=steps_per_call)
    index, count = parallel.process_share(compiled.mesh)
    read = data.batches(dataset.train, BATCH, process_index=index, process_count=count)
    batches = data.prefetch(read, compiled.place_batch)(0)
    variables = jax.jit(partial(model.init, train=False))(
        jax.random.key(0), jnp.zeros((1, *dataset.image_shape))
    )
    state = convnets.TrainState.create(
        variables, optimizer, jax.random.key(1), ema=True, normalization=dataset.normalization
    )
    found = {}
    for number in range(0, STEPS, steps_per_call):
        several = [next(batches) for _ in range(steps_per_call)]
        state, out = compiled(state, several[0] if steps_per_call == 1 else several)
        found |= {f"{number}.{path}": x for path, x in flatten(parallel.gather(out)).items()}
    batches.close()
    eval_step = parallel.compile(
        convnets.make_eval_step(loss_fn), strategy, devices=devices, donate=False
    )
    measured = evaluate_splits(eval_step, state, dataset, 22)
    found |= {f"evaluation.{name}": np.asarray(value) for name, value in measured.items()}
    return found | {f"state.{path}": x for path, x in flatten(parallel.gather(state)).items()}


def fit(workdir=None, steps=FIRST, **options):
    """A training through `fit`, with all that is decided on the way."""
    options = {**RUN, "workdir": workdir, "steps": steps, **options}
    return convnets.fit(small_resnet(), small_digits(), **options)


def result_arrays(result) -> dict:
    """The state of a result and the numbers in its lines, as flat arrays."""
    lines = {
        f"line.{line['step']}.{name}": np.asarray(value)
        for line in result.history
        for name, value in line.items()
        if name.startswith(("train_", "validation_", "test_", "learning_rate"))
    }
    return flatten(result.state) | lines


def refusals() -> list[str]:
    """What several processes refuse."""
    return [
        _refusal(partial(fit, devices=3)),
        _refusal(partial(fit, batch_size=25)),
        _refusal(partial(steps, "pmap")),
        _refusal(partial(parallel.connect, "127.0.0.1:1", 2, 0)),
    ]


def _refusal(function):
    try:
        function()
    except convnets.UserError as error:
        return str(error)
    return ""


def main(folder, coordinator, count, index):
    folder, count, index = Path(folder), int(count), int(index)
    parallel.connect(coordinator, count, index, timeout=120)
    assert jax.process_count() == count
    assert parallel.is_first() == (index == 0)

    found = {"jit": steps()}
    if count == 2:
        found["shard_map"] = steps("shard_map")
        found["several"] = steps(steps_per_call=5)
        (folder / f"refusals{index}").write_text("\n".join(refusals()))
    # Process 0's folder only: the others have none to read.
    workdir = folder / ("run" if index == 0 else f"nowhere{index}")
    resume = (folder / "run").exists()
    if not resume:
        found["fit"] = result_arrays(fit(workdir))
    else:
        found["fit"] = result_arrays(fit(workdir, steps=LAST, resume=True))
    scattered = np.array([0.0, -0.0, np.nan, 1e-45], np.float32) * (1 if index == 0 else 7)
    tree = {"x": scattered, "step": np.int32(3 + index), "flags": np.array([index == 0] * 3)}
    sent = parallel.broadcast_arrays(tree)
    assert sent["x"].tobytes() == np.array([0.0, -0.0, np.nan, 1e-45], np.float32).tobytes()
    assert sent["step"] == 3
    assert sent["step"].shape == ()
    assert sent["flags"].all()
    assert parallel.first_decides(lambda: {"from": index, "long": "é" * 3_000_000})["from"] == 0
    for name, arrays in found.items():
        np.savez(folder / f"{name}{index}.npz", **arrays)
    (folder / f"ready{index}").touch()
    while not (folder / "seen").exists():  # our sockets are looked at
        time.sleep(0.1)
    parallel.wait_for_others()


if __name__ == "__main__":
    main(*sys.argv[1:])
