"""Pre-training against random start: what is archived bears out what is claimed."""

import statistics

import jax
import jax.numpy as jnp

from convnets.unsupervised import KMeans

from .claims import load, read

LESS_THAN_LABELS = ("convolutional", 100)


def test_networks_have_the_layers_that_their_stages_fill():
    networks = load("pretraining_networks").NETWORKS
    for create in networks.values():
        model, stages = create(4)
        images = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
        shapes = jax.eval_shape(
            lambda x, m=model: m.init(jax.random.key(0), x, train=False), images
        )
        layers = shapes["params"]["backbone"]
        for stage in stages:
            learner = stage.learner
            units = learner.clusters if isinstance(learner, KMeans) else learner.features[0]
            assert layers[stage.layer]["kernel"].shape[-1] == units


def test_dropout_is_over_every_layer_that_the_next_one_sees():
    net, images = load("pretraining_networks").DenseNet(50, dropout=0.3), jnp.ones((2, 4, 4, 1))
    variables = net.init(jax.random.key(0), images, train=False)
    found = net.apply(variables, images, train=True, rngs={"dropout": jax.random.key(1)})
    for number in (1, 2, 3):
        assert 0.1 < (found[f"dense{number}"] == 0).mean() < 0.5


def test_claim():
    archive, experiment = read("pretraining_mnist")
    for network, printed in experiment.PRINTED.items():
        whole = experiment.errors(archive, network, experiment.ALL, "pre-trained")
        assert statistics.median(whole) <= printed
        for labels in (100, 500, 1000):
            random, learned = (
                experiment.errors(archive, network, labels, start) for start in experiment.WITH_ALL
            )
            assert len(random) == len(learned) == 3
            gained = experiment.gains(archive, network, labels)
            assert min(gained) > 0
            assert statistics.mean(gained) > statistics.stdev(gained)
            spread = max(statistics.stdev(random), statistics.stdev(learned))
            # Which 100 labels there are matters more to the convolutional one than how it begins.
            assert (statistics.mean(gained) > spread) != ((network, labels) == LESS_THAN_LABELS)
