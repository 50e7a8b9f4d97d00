import jax
import numpy as np
import pytest

from convnets.benchmark import flax_peer
from convnets.benchmark.workloads import compile_program, create_workload

from .peers import NETWORKS, ours


@pytest.mark.parametrize(("name", "image_shape"), NETWORKS)
def test_it_is_the_same_network(name, image_shape):
    workload, variables, images, expected, trained = ours(name, image_shape)
    network, renamed = flax_peer.build_network(workload), flax_peer.rename(variables)

    @jax.jit
    def apply(variables, images):
        keys = {"dropout": jax.random.key(0)}
        trained, _ = network.apply(
            variables, images, train=True, mutable=["batch_stats"], rngs=keys
        )
        return network.apply(variables, images, train=False), trained

    logits, logits_trained = apply(renamed, images)
    own = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))
    assert jax.tree.map(lambda leaf: leaf.shape, own) == jax.tree.map(np.shape, renamed)
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())
    if name != "alexnet":  # whose dropout draws other masks
        atol = 1e-4 * np.abs(trained).max()
        np.testing.assert_allclose(logits_trained, trained, atol=atol)


@pytest.mark.parametrize("mode", ["train", "infer"])
def test_it_runs(mode):
    workload = create_workload("cifar_resnet8", 2, mode=mode, precision="bfloat16")
    contestant = flax_peer.start(workload)
    contestant.run(2)
    assert contestant.name == "flax"
    assert contestant.compile_seconds > 0
    assert contestant.peak_bytes > 4 * 75_000


def test_it_trains_as_ours(monkeypatch):
    """After four steps on the same batch the parameters are the same."""
    for module in ("workloads", "flax_peer"):
        monkeypatch.setattr(f"convnets.benchmark.{module}.RATE", 0.02)
    workload = create_workload("cifar_resnet8", 8)
    program = compile_program(workload)
    state, batch = program.arguments()
    first = jax.device_get(state.params)
    for _ in range(4):
        state, _ = program.compiled(state, batch)
    step, theirs, images, labels = flax_peer.prepare_training(workload)
    for _ in range(4):
        theirs, _ = step(theirs, images, labels)
    ours = flax_peer.rename({"params": jax.device_get(state.params)})["params"]
    first = flax_peer.rename({"params": first})["params"]
    for name, values in ours.items():
        for key, value in values.items():
            moved = np.abs(value - first[name][key]).max()
            np.testing.assert_allclose(theirs[0][name][key], value, atol=0.02 * moved)
