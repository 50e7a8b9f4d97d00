import dataclasses

import pytest
from flax.traverse_util import flatten_dict

from convnets.benchmark import networks
from convnets.benchmark.networks import describe_network
from convnets.benchmark.workloads import create_workload, variable_shapes
from convnets.errors import UserError
from convnets.models import create_backbone, list_models

NAMES = [name for name in list_models() if networks.has_peer(create_backbone(name))]
NAMES.remove("cifar_resnet1202")  # as the others, slowly
PEERLESS = ["alexnet_two_tower", "deepface", "densenet121", "resnet50d", "resnext50_32x4d"]
PEERLESS += ["seresnet50", "vgg11"]


def paths(layers):
    for layer in layers:
        if layer.path:
            yield layer.path
        yield from paths(layer.settings.get("body", ()))
        yield from paths(layer.settings.get("shortcut", ()))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_belongs_to_one_layer(name):
    workload = create_workload(name, 1)
    flat = flatten_dict(variable_shapes(workload)["params"], sep="/")
    expected = {path.rpartition("/")[0] for path in flat}
    assert sorted(paths(describe_network(workload))) == sorted(expected)


@pytest.mark.parametrize("name", PEERLESS)
def test_a_model_of_another_family_has_no_peer(name):
    with pytest.raises(UserError, match=f"{name} has no peer; there are peers of alexnet"):
        describe_network(create_workload(name, 1))


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
