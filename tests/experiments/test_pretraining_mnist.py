"""Pre-training against random start: what is archived bears out what is claimed."""

import statistics

import jax
import jax.numpy as jnp

from .claims import load, read_part


def test_networks_have_the_layers_that_their_stages_fill():
    networks = load("pretraining_networks").NETWORKS
    for create in networks.values():
        model, stages = create(4)
        images = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
        shapes = jax.eval_shape(
            lambda x, m=model: m.init(jax.random.key(0), x, train=False), images
        )
        layers = shapes["params"]["backbone"]
        assert set(layers) == {stage.layer for stage in stages}
        for stage in stages:
            assert layers[stage.layer]["kernel"].shape[-1] == stage.learner.features[0]


def test_claim():
    archive, experiment = read_part("pretraining_mnist")
    for network, printed in experiment.PRINTED.items():
        whole = experiment.errors(archive, network, experiment.ALL, "pre-trained")
        assert statistics.median(whole) <= printed
        for labels in (100, 500, 1000):
            random, learned = (
                experiment.errors(archive, network, labels, start) for start in experiment.STARTS
            )
            assert len(random) == len(learned) == 3
            spread = max(statistics.stdev(random), statistics.stdev(learned))
            assert statistics.mean(random) - statistics.mean(learned) > spread
