import dataclasses

import pytest
from flax.traverse_util import flatten_dict

from convnets.benchmark import networks
from convnets.benchmark.networks import describe_network
from convnets.benchmark.workloads import create_workload, variable_shapes
from convnets.errors import UserError
from convnets.models import list_models


def paths(layers):
    for layer in layers:
        if layer.path:
            yield layer.path
        yield from paths(layer.settings.get("body", ()))
        yield from paths(layer.settings.get("shortcut", ()))


@pytest.mark.parametrize("name", [n for n in list_models() if n != "cifar_resnet1202"])
def test_every_parameter_belongs_to_one_layer(name):
    workload = create_workload(name, 1)
    flat = flatten_dict(variable_shapes(workload)["params"], sep="/")
    expected = {path.rpartition("/")[0] for path in flat}
    assert sorted(paths(describe_network(workload))) == sorted(expected)


def test_a_model_without_a_peer_is_refused_with_those_that_have_one(monkeypatch):
    families = dict(networks.FAMILIES)
    del families[networks.LeNet5]
    monkeypatch.setattr(networks, "FAMILIES", families)
    with pytest.raises(
        UserError, match="lenet5 has no peer; there are peers of alexnet, .*resnet50"
    ):
        describe_network(create_workload("lenet5", 1))


def test_layers_are_plain_data():
    layers = describe_network(create_workload("cifar_resnet8", 1))
    assert not any(dataclasses.is_dataclass(layer) for layer in layers)
    kinds = [layer.kind for layer in layers]
    assert kinds == ["conv", "norm", "relu", *["residual", "relu"] * 3, "mean", "dense"]
