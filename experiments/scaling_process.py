"""One of the processes that `scaling.py` starts: its share of a synchronous training, timed.

    python experiments/scaling_process.py '{"address": "127.0.0.1:PORT", "processes": 2, …}'

Process 0 prints the seconds of a step, a JSON list of all repetitions, as its last line.
"""

import json
import os
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.backend import register_backend_factory
from jax.sharding import NamedSharding, PartitionSpec

import convnets


def connect(address: str, processes: int, index: int) -> None:
    """Joins the others, with all that listens on the loopback interface alone."""
    jax.distributed.initialize(
        address,
        processes,
        index,
        cluster_detection_method="deactivate",
        coordinator_bind_address=address,
    )

    def make_client():
        from jax._src import distributed, xla_bridge
        from jax._src.lib import _jax

        client = distributed.global_state.client
        host = address.partition(":")[0]
        collectives = _jax.make_gloo_tcp_collectives(distributed_client=client, hostname=host)
        return xla_bridge.make_cpu_client(collectives)

    register_backend_factory("cpu", make_client, priority=0, fail_quietly=False)


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
    batch = {
        "image": rng.integers(0, 256, (batch_size, *image_shape), np.uint8),
        "label": rng.integers(0, 10, batch_size).astype(np.int32),
    }
    place = {
        name: NamedSharding(step.mesh, spec)
        for name, spec in (("state", PartitionSpec()), ("batch", PartitionSpec("data")))
    }
    return step, put(convnets.parallel.gather(state), place["state"]), put(batch, place["batch"])


def put(tree, sharding):
    """The parts of arrays that are this process's, of arrays that every process knows whole."""

    def of_this(x):
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(of_this, tree)


def main(address, processes, index, core, model, image_shape, batch_size, steps, repetitions):
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    convnets.parallel.keep_memory()
    if processes > 1:
        connect(address, processes, index)
    step, state, batch = create_step(model, image_shape, batch_size)
    state, _ = step.run(state, batch)
    jax.block_until_ready(state)
    seconds = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        for _ in range(steps):
            state, metrics = step.run(state, batch)
        jax.block_until_ready((state, metrics))
        seconds.append((time.perf_counter() - begin) / steps)
    if index == 0:
        print(json.dumps(seconds))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
