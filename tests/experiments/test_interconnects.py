"""The model of many devices against small cases by hand."""

import doctest
import math

import pytest

import convnets

from .claims import load

model = load("interconnects")
Cluster, Layer, Link, Network = model.Cluster, model.Layer, model.Link, model.Network

FREE = Link(math.inf, 0.0)
SLOW = Link(bandwidth=10.0, latency=0.5)
# Forward 1 s and 2 s, backward 4 s and 3 s, gradients of 40 and 20 bytes, outputs of 5 and 1.
NETWORK = Network((Layer(1, 4, 40, 5), Layer(2, 3, 20, 1)), update=1.0, examples=2)


def hosts(link, per_host=1, inside=FREE):
    return Cluster(inside, link, per_host)


def test_examples_of_the_docstrings_run():
    assert doctest.testmod(model).attempted == 4
    assert doctest.testmod(model).failed == 0


def test_one_device_sends_nothing():
    assert NETWORK.alone == 11
    for seconds in (
        model.synchronous(NETWORK, 1, hosts(SLOW)),
        model.parameter_server(NETWORK, 1, hosts(SLOW), shards=1),
        model.model_parallel(NETWORK, 1, hosts(SLOW)),
    ):
        assert seconds == 11


@pytest.mark.parametrize("devices", [2, 8, 1024])
def test_links_without_end_cost_nothing(devices):
    for seconds in (
        model.synchronous(NETWORK, devices, hosts(FREE)),
        model.synchronous(NETWORK, devices, hosts(FREE), bucket=math.inf),
        model.parameter_server(NETWORK, devices, hosts(FREE), shards=3),
        model.model_parallel(NETWORK, devices, hosts(FREE)),
    ):
        assert seconds == 11


def test_two_devices_without_overlap():
    """10 s of computing, 60 bytes over 10 a second and two messages of 0.5 s, 1 s of update."""
    assert model.synchronous(NETWORK, 2, hosts(SLOW), bucket=math.inf) == 10 + 7 + 1


def test_two_devices_with_overlap():
    """The second layer's 20 bytes start at 6 s and take 3 s, before the first one's are ready at
    10 s; those take 5 s."""
    assert model.synchronous(NETWORK, 2, hosts(SLOW)) == 10 + 5 + 1
    assert model.synchronous(NETWORK, 2, hosts(SLOW), bucket=21) == 10 + 7 + 1  # all in one


def test_a_gradient_waits_for_the_one_before():
    """On four devices a sum takes four messages: the second layer's 20 bytes travel from 6 s to
    6 + 3 + 2 = 11 s, and the first one's 40 start only then, for 6 + 2."""
    assert model.synchronous(NETWORK, 4, hosts(SLOW)) == pytest.approx(11 + 8 + 1)


@pytest.mark.parametrize("hosts", [2, 4, 32, 1024])
@pytest.mark.parametrize("size", [0.0, 1e3, 1e9])
def test_halving_and_doubling_saves_messages_not_bytes(hosts, size):
    """Where 2 log2(n) messages are fewer than 2(n - 1) it is their latency faster."""
    link = Link(1e9, 1e-3)
    ring, tree = (f(size, hosts, link) for f in (model.ring_all_reduce, model.halving_doubling))
    saved = 2 * (hosts - 1 - round(math.log2(hosts)))
    assert ring - tree == pytest.approx(1e-3 * saved)


def test_hosts_of_two_sum_inside_first():
    """60 bytes at 20 a second inside, then at 10 between the two hosts."""
    cluster = hosts(SLOW, per_host=2, inside=Link(20.0, 0.0))
    assert cluster.parts(4) == (2, 2)
    assert model.all_reduce(60, 4, cluster) == 3 + 7
    assert model.all_reduce(60, 2, cluster) == 3


def test_a_server_of_one_shard_is_the_narrow_end():
    """The second layer's 20 bytes of four hosts: 8.5 s into the shard from 6 s on, 8.5 s back until
    23 s; the first one's are in at 14.5 + 16.5 = 31 s, and back at 47.5 s."""
    assert model.parameter_server(NETWORK, 4, hosts(SLOW), shards=1) == 47.5 + 1


def test_as_many_shards_as_hosts_are_like_the_hosts():
    """2.5 s for 20 bytes each way, 4.5 s for 40: 10 + 4.5 + 4.5; more shards are of no use."""
    for shards in (4, 8):
        assert model.parameter_server(NETWORK, 4, hosts(SLOW), shards=shards) == 19 + 1


def test_split_layers_exchange_the_outputs_of_all_examples():
    """Of 2 devices with 2 examples each 20 and 4 bytes, half of them to send: 1.5 s and 0.7 s,
    there and back. Of 4 devices 40 and 8, three quarters in two messages: 4 s and 1.6 s."""
    assert model.model_parallel(NETWORK, 2, hosts(SLOW)) == pytest.approx(11 + 2 * (1.5 + 0.7))
    assert model.model_parallel(NETWORK, 4, hosts(SLOW)) == pytest.approx(11 + 2 * (4.0 + 1.6))


def test_measured_times_are_divided_over_layers():
    summary = convnets.summarize(convnets.create_model("lenet5"), (28, 28, 1))
    network = model.spread(summary, forward=1.0, backward=2.0, update=0.5, examples=64)
    assert network.alone == pytest.approx(3.5)
    assert sum(layer.gradient for layer in network.layers) == 4 * summary.parameters
    dense = network.layers[[layer.path for layer in summary.layers].index("head")]
    assert dense.output == 40
    assert dense.backward == pytest.approx(2 * 840 / summary.multiply_adds)
