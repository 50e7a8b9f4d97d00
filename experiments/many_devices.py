"""What `scaling.py` foretells: whose step, on which machines, and how many of them.

Measured steps are those of `speed.py`, with oneDNN, as archived. A third of one is taken for the
forward pass and two thirds for the backward pass, as multiply-adds are, and layers have their share
by them. A device is a host, with links as below.

Of the paper are: 100 MB of gradients and 120 ms of backward pass for 32 images on one P100 (section
4.2), hosts of 8 with 50 Gbit/s, halving and doubling between them (4.1). Announced with it were 29
hours on 8 GPUs and 1 on 256, for 90 epochs, which are 0.232 s and 0.256 s a step; they are whole
hours, so that their ratio is known to some percent only. Assumed are: 20 GB/s and 5 µs inside a
host, 10 µs between hosts, and a step of one GPU that is as long as that of 8 but for what these
cannot hide.
"""

import math

import interconnects
from archive import read_archive
from interconnects import Cluster, Link, Network

import convnets

DEVICES = tuple(2**power for power in range(11))
GBIT = 1e9 / 8  # bytes a second
ETHERNET = {"1 Gbit/s": Link(GBIT, 50e-6), "10 Gbit/s": Link(10 * GBIT, 20e-6)}
BUCKET = 4e6  # bytes of gradients that travel together
PAPER = Cluster(inside=Link(20e9, 5e-6), outside=Link(50 * GBIT, 10e-6), per_host=8)
PAPER_BACKWARD, PAPER_IMAGES = 0.120, 32
IMAGENET, EPOCHS = 1_281_167, 90
PAPER_HOURS = {8: 29.0, 256: 1.0}
NETWORKS = {"lenet5": (28, 28, 1), "alexnet": (224, 224, 3)}  # and their images
STRATEGIES = ("all-reduce", "server, 1 shard", "server, 16 shards", "model parallel")


def measured_steps(name: str) -> tuple[list[float], int]:
    """Seconds of a network's training step on the machine of `speed.py`, every repetition, and the
    images in it."""
    (line,) = (
        line
        for line in read_archive("speed")["results"]
        if (line["model"], line["mode"], line["precision"]) == (name, "train", "float32")
    )
    rates = line["contestants"]["onednn"]["images_per_second_repetitions"]
    return [line["batch_size"] / rate for rate in rates], line["batch_size"]


def measured_network(name: str, step: float, examples: int) -> Network:
    """A network whose step takes so many seconds on one device."""
    summary = convnets.summarize(convnets.create_model(name, num_classes=10), NETWORKS[name])
    return interconnects.spread(
        summary, forward=step / 3, backward=2 * step / 3, update=0.0, examples=examples
    )


def paper_network(alone: float) -> Network:
    """Goyal's ResNet-50 with a step of so many seconds on one device."""
    summary = convnets.summarize(convnets.create_model("resnet50"), (224, 224, 3))
    return interconnects.spread(
        summary,
        forward=alone - PAPER_BACKWARD,
        backward=PAPER_BACKWARD,
        update=0.0,
        examples=PAPER_IMAGES,
    )


def check_paper() -> dict:
    """What the model says of the paper's machines, beside what the paper does."""
    seconds = {
        gpus: hours * 3600 / (EPOCHS * IMAGENET / (PAPER_IMAGES * gpus))
        for gpus, hours in PAPER_HOURS.items()
    }
    few, many = PAPER_HOURS
    between = interconnects.halving_doubling
    hidden = paper_network(seconds[few])
    rest = interconnects.synchronous(hidden, few, PAPER, between=between) - seconds[few]
    network = paper_network(seconds[few] - rest)
    foretold = foretell(network, PAPER, between=between)
    times = dict(zip(DEVICES, foretold["all-reduce"]))
    share = seconds[few] / seconds[many]
    return {
        "step_seconds": [network.alone],
        "examples": PAPER_IMAGES,
        "gradient_megabytes": sum(layer.gradient for layer in network.layers) / 1e6,
        "efficiency_of_the_paper": share,
        "efficiency_of_the_model": times[few] / times[many],
        "gigabits_for_the_paper": find_bandwidth(network, few, many, share) / GBIT,
        "foretold": {"50 Gbit/s, hosts of 8": foretold},
    }


def find_bandwidth(network: Network, few: int, many: int, share: float) -> float:
    """Bytes a second out of a host with which the model has a share of the speed of `few` GPUs at
    `many`; by halving, for more bandwidth is never slower."""

    def found(bandwidth):
        cluster = PAPER._replace(outside=PAPER.outside._replace(bandwidth=bandwidth))
        few_many = (
            interconnects.synchronous(
                network, devices, cluster, between=interconnects.halving_doubling
            )
            for devices in (few, many)
        )
        return next(few_many) / next(few_many)

    low, high = GBIT, PAPER.outside.bandwidth
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if found(middle) >= share else (middle, high)
    return high


def foretell(network: Network, cluster: Cluster, *, bucket: float = 0.0, between=None) -> dict:
    """Seconds of a step by strategy, for each number of `DEVICES`."""
    between = between or interconnects.ring_all_reduce

    def server(devices, shards):
        return interconnects.parameter_server(
            network, devices, cluster, shards=shards, bucket=bucket
        )

    ways = {
        "all-reduce": lambda devices: interconnects.synchronous(
            network, devices, cluster, between=between, bucket=bucket
        ),
        "server, 1 shard": lambda devices: server(devices, 1),
        "server, 16 shards": lambda devices: server(devices, 16),
        "model parallel": lambda devices: interconnects.model_parallel(network, devices, cluster),
    }
    return {way: [seconds(devices) for devices in DEVICES] for way, seconds in ways.items()}
