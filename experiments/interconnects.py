"""How long a step takes on many devices, by a model of what they send each other.

A network is a row of layers, each with its seconds of computing and its bytes to send; a cluster is
hosts of some devices each, a link inside of a host and one out of it. An event is a layer whose
gradient is ready in the backward pass: from then on it may travel, while those before it are still
computed, as soon as the link is free. Sums and gathers go round a ring inside of a host, and by
halving and doubling between hosts. All devices are alike and none is ever late; nobody waits for
input, for copies between a device and its host, or for a message to be packed. So what comes out is
a bound for these algorithms on such links, which real machines stay behind.

Units are bytes and seconds throughout.
"""

import math
from typing import NamedTuple


class Link(NamedTuple):
    """What `bandwidth` carries each way at once, and the `latency` of every message."""

    bandwidth: float
    latency: float


class Cluster(NamedTuple):
    """Hosts of `per_host` devices, with a link of each device `inside` and one of each host
    `outside`."""

    inside: Link
    outside: Link
    per_host: int = 1

    def parts(self, devices: int) -> tuple[int, int]:
        """How many devices a host has, and how many hosts there are, of so many devices."""
        within = min(devices, self.per_host)
        return within, math.ceil(devices / within)


class Layer(NamedTuple):
    """A layer's `forward` and `backward` seconds for the examples of one device, the bytes of its
    `gradient`, and those of its `output` for one example."""

    forward: float
    backward: float
    gradient: float
    output: float


class Network(NamedTuple):
    """Layers in the order of the forward pass, seconds of the `update`, and the `examples` that a
    device computes in a step."""

    layers: tuple[Layer, ...]
    update: float
    examples: int

    @property
    def forward(self) -> float:
        return sum(layer.forward for layer in self.layers)

    @property
    def backward(self) -> float:
        return sum(layer.backward for layer in self.layers)

    @property
    def alone(self) -> float:
        """Seconds of a step on one device."""
        return self.forward + self.backward + self.update


def all_gather(size: float, devices: int, link: Link) -> float:
    """Seconds until each of so many devices in a ring has all of `size` bytes, of which it had its
    share.

    >>> all_gather(8.0, 4, Link(bandwidth=2.0, latency=1.0))
    6.0
    """
    return (devices - 1) / devices * size / link.bandwidth + (devices - 1) * link.latency


def ring_all_reduce(size: float, devices: int, link: Link) -> float:
    """Seconds until all have the sum of `size` bytes from each: every device sends its neighbor
    2(n - 1)/n of them in 2(n - 1) messages.

    Reference: Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of
    workstations".

    >>> ring_all_reduce(8.0, 4, Link(bandwidth=2.0, latency=1.0))
    12.0
    """
    return 2 * all_gather(size, devices, link)


def doubling(size: float, devices: int, link: Link) -> float:
    """As `all_gather`, in log2(n) messages, each twice as long as the one before, where n is a
    power of two.

    >>> doubling(8.0, 4, Link(bandwidth=2.0, latency=1.0))
    5.0
    """
    messages = math.ceil(math.log2(devices))
    return (devices - 1) / devices * size / link.bandwidth + messages * link.latency


def halving_doubling(size: float, devices: int, link: Link) -> float:
    """As `ring_all_reduce`, in 2 log2(n) messages: never slower, since the bytes are the same.

    Reference: Thakur, Rabenseifner and Gropp 2005, "Optimization of collective communication
    operations in MPICH"; between hosts in Goyal et al. 2017, section 4.1.

    >>> halving_doubling(8.0, 4, Link(bandwidth=2.0, latency=1.0))
    10.0
    """
    return 2 * doubling(size, devices, link)


def all_reduce(size: float, devices: int, cluster: Cluster) -> float:
    """Seconds of a sum inside of each host, then between the hosts, of which each sends it once."""
    within, hosts = cluster.parts(devices)
    inside = ring_all_reduce(size, within, cluster.inside)
    return inside + halving_doubling(size, hosts, cluster.outside)


def synchronous(network: Network, devices: int, cluster: Cluster, *, bucket: float = 0.0) -> float:
    """Seconds of a step whose gradients are summed by all-reduce, during the backward pass.

    Args:
      bucket: bytes of gradients that are gathered before they are sent; what is left goes with the
        first layer's. 0 sends each layer by itself, `math.inf` all of them after the backward pass.
    """
    now = network.forward
    free = waiting = 0.0  # when the link is; bytes that are ready and not yet sent
    for number, layer in reversed(list(enumerate(network.layers))):
        now += layer.backward
        waiting += layer.gradient
        if number == 0 or (waiting and waiting >= bucket):
            free = max(free, now) + all_reduce(waiting, devices, cluster)
            waiting = 0.0
    return max(now, free) + network.update


def parameter_server(
    network: Network, devices: int, cluster: Cluster, *, shards: int, bucket: float = 0.0
) -> float:
    """Seconds of a step through a synchronous parameter server of `shards` hosts.

    Devices of a host sum their gradients first; each host then pushes them, a part to every shard,
    and pulls the new parameters back, while the gradients before are still on their way out. Of a
    push or pull the slowest end counts: the host's link with all its bytes, or the shard's with its
    part of those of all hosts. A single host needs no server. The update is the shards' and takes
    as long as elsewhere.
    """
    within, hosts = cluster.parts(devices)

    def one_way(size):
        if hosts == 1:
            return 0.0
        busiest = max(size, size * hosts / shards)
        return busiest / cluster.outside.bandwidth + cluster.outside.latency

    now, pushed, pulled, waiting = network.forward, 0.0, 0.0, 0.0
    for number, layer in reversed(list(enumerate(network.layers))):
        now += layer.backward
        waiting += layer.gradient
        if number == 0 or (waiting and waiting >= bucket):
            inside = ring_all_reduce(waiting, within, cluster.inside)
            pushed = max(pushed, now) + inside + one_way(waiting)
            pulled = max(pulled, pushed) + one_way(waiting)
            waiting = 0.0
    return max(now, pulled) + network.update


def model_parallel(network: Network, devices: int, cluster: Cluster) -> float:
    """Seconds of a step in which every layer is split over all devices.

    Each computes its part of each layer for the examples of all, as many a device as elsewhere, so
    that it computes as long; its gradients stay where they are. But a layer needs the whole output
    of the one before: outputs of all examples are gathered by all, and their gradients scattered
    back, and there is nothing else to do meanwhile.
    """
    within, hosts = cluster.parts(devices)
    exchanged = 0.0
    for layer in network.layers:
        size = layer.output * network.examples * devices
        exchanged += all_gather(size, within, cluster.inside)
        exchanged += doubling(size, hosts, cluster.outside)
    return network.alone + 2 * exchanged


def spread(summary, *, forward: float, backward: float, update: float, examples: int) -> Network:
    """A network from measured times, which are divided over its layers by their multiply-adds.

    Args:
      summary: from `convnets.summarize`.
      forward, backward, update: seconds of a step's parts on one device.
      examples: of which.
    """
    layers = []
    for layer in summary.layers:
        share = layer.multiply_adds / summary.multiply_adds
        output = 4 * math.prod(layer.output_shape) if layer.multiply_adds else 0
        layers.append(Layer(share * forward, share * backward, 4 * layer.parameters, output))
    return Network(tuple(layers), update, examples)
