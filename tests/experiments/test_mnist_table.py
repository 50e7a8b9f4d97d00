"""The systems of two lectures on MNIST: what is archived of them bears out what is claimed."""

import statistics
from functools import partial

import jax
import pytest

from convnets.training.options import TrainingOptions

from .claims import load, read_part

# At most these test errors in %, the median of the seeds, and of how many seeds.
BARS = {
    "linear classifier": (12.0, 3),
    "800 hidden units": (1.6, 3),
    "convolutional network": (0.65, 3),
    "convolutional network, distortions": (0.4, 3),
    "9 layers of 1000 units, distortions": (0.5, 1),
    "committee, distortions": (0.30, 3),
}


@pytest.mark.parametrize("system", BARS)
def test_a_system_errs_no_more_than_its_bar(system):
    archive, _ = read_part("mnist_table")
    found = [x["test_error_percent"] for x in archive["results"] if x["system"] == system]
    bar, seeds = BARS[system]
    if len(found) < seeds:
        pytest.skip(f"{len(found)} of {seeds} seeds are archived: {system}")
    assert statistics.median(found) <= bar


def test_every_network_says_a_class_and_every_option_is_known():
    systems = load("mnist_systems")
    digits = jax.ShapeDtypeStruct((2, 28, 28, 1), "float32")
    for create in systems.NETWORKS.values():
        init = partial(create().init_with_output, jax.random.key(0), train=False)
        assert jax.eval_shape(init, digits)[0].shape == (2, 10)
    for system in systems.SYSTEMS.values():
        assert system.network is None or system.network in systems.NETWORKS
        TrainingOptions(**system.options)


def test_what_is_archived_is_of_the_whole_test_split():
    archive, experiment = read_part("mnist_table")
    assert archive["command"] == "python experiments/mnist_table.py"
    cases = [(result["system"], result["seed"]) for result in archive["results"]]
    assert len(set(cases)) == len(cases)
    for result in archive["results"]:
        system = experiment.SYSTEMS[result["system"]]
        assert result["seed"] in archive["settings"]["seeds"][: system.runs]
        assert result["test_examples"] == 10_000
        assert result["test_error_percent"] == pytest.approx(result["test_errors"] / 100)
        assert len(result.get("member_error_percent", [])) == len(system.widths)
        assert ("one_view_error_percent" in result) == bool(system.views and not system.widths)
