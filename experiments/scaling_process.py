"""One of the processes that `scaling.py` starts: its share of a synchronous training, timed.

    python experiments/scaling_process.py '{"address": "127.0.0.1:PORT", "processes": 2, …}'

Process 0 prints the seconds of a step as its last line, after as many that warm it up.
"""

import json
import os
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import convnets


def create_step(model: str, image_shape, batch_size: int):
    """A training step over the devices of all processes, its state and a batch of noise."""
    network = convnets.create_model(model, num_classes=10)
    optimizer = optax.sgd(0.01, momentum=0.9)
    step = convnets.make_step(convnets.classification_loss(network), optimizer)
    # By shard_map, so that each process computes as one alone does, with oneDNN where it is there.
    step = convnets.parallel.compile(step, "shard_map")
    images = jnp.zeros((1, *image_shape))
    variables = jax.jit(network.init, static_argnames="train")(
        jax.random.key(0), images, train=False
    )
    state = convnets.TrainState.create(variables, optimizer, jax.random.key(1))
    rng = np.random.default_rng(0)
    rows = batch_size // jax.process_count()  # of each batch this process's share
    batch = {
        "image": rng.integers(0, 256, (rows, *image_shape), np.uint8),
        "label": rng.integers(0, 10, rows).astype(np.int32),
    }
    return step, step.place_state(state), step.place_batch(batch)


def main(address, processes, index, core, model, image_shape, batch_size, steps):
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    convnets.parallel.keep_memory()
    if processes > 1:
        convnets.parallel.connect(address, processes, index)
    step, state, batch = create_step(model, image_shape, batch_size)
    for _ in range(2):  # the second time counts
        begin = time.perf_counter()
        for _ in range(steps):
            state, metrics = step.run(state, batch)
        jax.block_until_ready((state, metrics))
        seconds = (time.perf_counter() - begin) / steps
    if index == 0:
        print(seconds)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
