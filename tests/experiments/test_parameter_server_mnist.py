"""An asynchronous parameter server: what is archived bears out what is claimed."""

import statistics

from .claims import read


def test_the_server_errs_as_rarely_as_one_device_and_every_push_is_accounted_for():
    archive, experiment = read("parameter_server_mnist")
    assert archive["command"] == "python experiments/parameter_server_mnist.py"
    used = archive["settings"]
    assert (used["workers"], used["shards"]) == (4, 2)
    one = experiment.errors(archive, experiment.ONE)
    assert len(one) >= 3
    for way in (experiment.SERVER, experiment.KILLED):
        found = experiment.errors(archive, way)
        assert len(found) == len(one)
        assert abs(statistics.mean(found) - statistics.mean(one)) <= 0.3
    for line in archive["results"]:
        assert line["test_examples"] == 10_000
        if line["way"] == experiment.ONE:
            continue
        assert line["sent"] == line["applied"] + line["lost"]
        assert sum(line["staleness"].values()) + line["ahead"] == line["applied"]
        if line["way"] != experiment.KILLED:
            assert (line["lost"], line["repeated"], line["restarts"]) == (0, 0, {})
        else:
            kinds = sorted(name.split()[0] for name in line["restarts"])
            assert kinds == ["shard", "worker"]
            assert line["lost"] > 0
