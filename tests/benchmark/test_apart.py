import types

import pytest

from convnets.benchmark import flax_peer
from convnets.benchmark.apart import start_apart
from convnets.benchmark.workloads import create_workload
from convnets.errors import UserError


def test_a_peer_runs_in_a_process_of_its_own():
    contestant = start_apart(flax_peer, create_workload("lenet5", 4, mode="infer"))
    assert contestant.name == "flax"
    assert contestant.run(3) is None


def test_what_it_raises_is_raised_here():
    with pytest.raises(UserError, match="nothing"):
        start_apart(flax_peer, create_workload("lenet5", 4)._replace(model="nothing"))


def test_its_end_is_told():
    nothing = types.SimpleNamespace(__name__="convnets.errors")  # which has no `start`
    with pytest.raises(AttributeError, match="start"):
        start_apart(nothing, create_workload("lenet5", 4))
