"""Workers and shards as processes under Ray: they train, die, come back, stop and go on."""

import contextlib
import json
import os
import signal
import sys
import time
import types

import jax
import numpy as np
import optax
import pytest

import convnets
from convnets.launching import find_free_port
from convnets.parallel import actors, downpour, ray_cluster
from convnets.parallel.parameter_server import Counts, Push, create_shards, join_shards
from tests import shell
from tests.small_runs import Normed, assert_same_bits, column, few_digits
from tests.sockets import listening, tree

from .quadratics import PARAMS, RATE, STATS, task

SGD = optax.sgd(RATE)


@pytest.fixture(scope="module")
def ray():
    """One Ray for all tests of this file that start none of their own."""
    with ray_cluster.connected(None, None) as (module, _):
        yield module


@contextlib.contextmanager
def served(ray, quadratic, shards=2, **options):
    counts = [Counts(quadratic.begun)] * shards
    parts = create_shards(PARAMS, STATS, SGD.init(PARAMS), SGD, shards, counts)
    with downpour.run_downpour(quadratic, SGD, parts, **options) as server:
        yield server


def report_of(server):
    return downpour.make_report([shard.counts for shard in server.read()], server.hear())


class Killer:
    """Kills actors, each once, as soon as so many pushes are announced."""

    def __init__(self, **victims):
        self.victims = {name.replace("_", " "): number for name, number in victims.items()}

    def __call__(self, heard):
        for name, number in list(self.victims.items()):
            if 2 * heard.sent.pushes >= number and name in heard.processes:
                os.kill(heard.processes[name], signal.SIGKILL)
                del self.victims[name]


def test_every_push_is_applied_once_and_parameters_are_the_sum(ray):
    quadratic, seen = task(2, seconds=0.1, push_every=2, warm_start=4), []
    with served(ray, quadratic, staleness_bound=1) as server:
        server.run(quadratic.until(24), tick=lambda heard: seen.append(heard.done))
        assert server.done == (7, 7)
        report, shards = report_of(server), server.read()
        assert all(address == "127.0.0.1" for address, _ in listening(os.getpid()))
        assert len(listening(os.getpid())) > 3
    assert {second for first, second in seen if first < 2} == {2}  # the other waits
    assert (report.sent, report.applied) == (24, 24)  # 2 + 2 * 5 pushes to two shards
    assert (report.repeated, report.dropped, report.lost, report.ahead) == (0, 0, 0, 0)
    assert sum(report.staleness.values()) == 24
    assert max(report.staleness) <= 3  # at most 2 * bound + 1 of the one other worker
    assert report.restarts == {}
    params, stats, _ = join_shards(shards, SGD.init(PARAMS))
    assert 0 < params["b"][0] < 2  # on the way to the mean of the batches
    assert np.ptp(params["b"]) == 0
    assert stats["mean"].shape == (3,)
    for shard in report.shards:
        assert shard.numbers == (7, 7)


def test_a_push_that_comes_twice_is_dropped(ray):
    with served(ray, task(1)) as server:
        server.run(3)
        before, repeated = server.read(), Push(0, 3, 2, PARAMS, STATS, 1.0)
        ray.get([shard.push.remote(repeated) for shard in server._shards])
        after, report = server.read(), report_of(server)
    for old, new in zip(before, after):
        assert_same_bits(old[:3], new[:3])
    assert (report.sent, report.applied, report.lost, report.dropped) == (6, 6, 0, 2)


def test_a_worker_and_a_shard_that_are_killed_come_back(ray, tmp_path):
    quadratic = task(2, seconds=0.02)
    with served(ray, quadratic, folder=tmp_path) as server:
        server.run(10)
        server.save()
        killer = Killer(worker_1=60, shard_0=90)
        server.run(60, tick=killer)
        assert not killer.victims
        assert server.done == (60, 60)
        report = report_of(server)
    assert report.restarts == {"worker 1": 1, "shard 0": 1}
    assert report.sent == report.applied + report.lost == 2 * 120
    forgetful, steady = report.shards
    for counts in report.shards:
        assert counts.numbers == (60, 60)
        assert counts.applied + counts.missing == 120  # each number is there, or known to be not
        assert sum(counts.staleness.values()) + counts.ahead == counts.applied
    assert steady.missing <= 1  # of the worker that was killed
    assert steady.ahead == 0
    assert forgetful.missing > 1  # what the shard had taken since its file
    assert forgetful.applied >= 20


def test_who_dies_too_often_is_named(ray, monkeypatch):
    monkeypatch.setattr(downpour, "RESTARTS", 0)
    for victim, expected in (("shard_0", "shard 0"), ("worker_0", "worker 0")):
        quadratic = task(1, seconds=0.05)
        with (
            served(ray, quadratic, shards=1) as server,
            pytest.raises(convnets.UserError, match=f"{expected} of the parameter server died"),
        ):
            server.run(400, tick=Killer(**{victim: 4}))


def unreadable(place):
    raise convnets.UserError("image 7 is damaged")


def test_what_a_user_can_mend_in_the_data_is_said_in_a_line(ray):
    broken = task(1)._replace(read=unreadable)
    with (
        served(ray, broken, shards=1) as server,
        pytest.raises(convnets.UserError, match="^worker 0: image 7 is damaged$"),
    ):
        server.run(2)


def test_all_stop_when_asked_and_go_on(ray):
    quadratic = task(2, seconds=0.01)
    with served(ray, quadratic) as server:
        server.run(500, stop=lambda: server.hear().sent.pushes >= 10)
        stopped = server.done
        assert all(0 < number < 500 for number in stopped)
        server.run(max(stopped) + 2)
        assert server.done == (max(stopped) + 2,) * 2
        report = report_of(server)
    assert report.sent == report.applied == 2 * sum(server.done)


def test_workers_that_still_start_are_not_waited_for_when_all_stop(ray):
    """Before they are there, and while one of them is before its first push."""
    quadratic = task(2, seconds=0.01)
    hanging = quadratic._replace(read=lambda place: time.sleep(3600))
    with served(ray, hanging, shards=1) as server:
        assert not server.start(lambda: True)
        assert server.start()
        server.run(5, stop=lambda: True)
        assert server.done == (0, 0)
        assert server.hear().sent.pushes == 0


def means_of(dataset):
    """Of every pixel over the training images, as the network sees them."""
    batch = dataset.train.batch(range(len(dataset.train)))
    images = convnets.prepare(batch["image"], dataset.normalization)
    return np.asarray(images).reshape(len(images), -1).mean(0)


def test_fit_trains_a_network_with_batch_norm(ray):
    options = {"parallel": "parameter-server", "workers": 2, "shards": 2, "progress": False}
    options |= {"batch_size": 12, "augment": (), "log_every": 20, "evaluate_every": 40}
    options |= {"schedule": "constant", "learning_rate": 0.02}
    first = convnets.fit(Normed(), few_digits(), steps=80, **options)
    exact = means_of(few_digits())
    line = first.history[-1]
    assert (line["step"], line["test_examples"]) == (80, 50)
    assert line["server"]["sent"] == line["server"]["applied"] == 160
    losses = column(first, "train_loss")
    assert losses[-1] < losses[0] / 2
    found = first.state.batch_stats["norm"]["mean"]
    assert np.linalg.norm(found - exact) < 0.1 * np.linalg.norm(exact)
    options |= {"parallel": "jit", "workers": 0, "shards": 1, "devices": 1, "optimizer": "adagrad"}
    more = convnets.fit(Normed(), few_digits(), state=first.state, steps=20, **options)
    assert int(more.state.step) == 100
    assert column(more, "train_loss")[0] < losses[0] / 2
    server = {"parallel": "parameter-server", "workers": 1, "devices": None}
    last = convnets.fit(Normed(), few_digits(), state=more.state, steps=1, **{**options, **server})
    assert int(last.state.step) == 101
    (count,) = [x for x in jax.tree.leaves(last.state.opt_state) if not x.shape]
    assert int(count) == 101  # carried to and fro


@pytest.mark.parametrize(("gpus", "each"), [(8, 1), (4, 1), (1, 0.25), (0, 0)])
def test_workers_share_the_gpus(monkeypatch, gpus, each):
    cluster = types.SimpleNamespace(cluster_resources=lambda: {"GPU": gpus} if gpus else {})
    assert ray_cluster.gpus_of_a_worker(cluster, 4) == 0
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert ray_cluster.gpus_of_a_worker(cluster, 4) == each


def test_without_ray_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(convnets.UserError, match="pip install -e '.\\[ray\\]'"):
        convnets.fit(Normed(), few_digits(), parallel="parameter-server", steps=2, progress=False)


def test_sigterm_saves_and_resume_goes_on(tmp_path):
    workdir = tmp_path / "run"
    words = ("--workdir", workdir, "--model", "linear", "--batch-size", 16, "--log-every", 20)
    words += ("--parallel", "parameter-server", "--workers", 2, "--shards", 2, "--push-every", 3)
    process = shell.start("train", *words, "--epochs", 400, "--checkpoint-every", 50)
    metrics = workdir / "metrics.jsonl"
    deadline = time.monotonic() + 200
    while not (metrics.exists() and "test_loss" in metrics.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    below = tree(process.pid)
    assert all(address == "127.0.0.1" for address, _ in listening(process.pid))
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 143, out + error
    assert "stopped by SIGTERM" in out
    assert "Traceback" not in out + error
    assert not [pid for pid in below if os.path.exists(f"/proc/{pid}") and not is_zombie(pid)]
    with convnets.Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        last = checkpoints.steps()[-1]
    _, error = shell.run("train", "--resume", "--workdir", workdir, "--workers", 3, code=2)
    assert "workers: 2 in the run, 3 now" in error
    out, error = shell.run("train", "--resume", "--workdir", workdir, "--steps", last + 60)
    assert f"going on from the checkpoint of step {last}" in out
    line = json.loads(metrics.read_text().splitlines()[-1])
    assert line["step"] >= last + 60
    server = line["server"]
    assert server["sent"] == server["applied"] == 2 * line["step"] // 3
    assert (server["dropped"], server["lost"]) == (0, 0)


def test_a_last_update_that_diverges_is_said_and_not_saved(tmp_path):
    words = ("--workdir", tmp_path / "run", "--model", "linear", "--steps", 1, "--batch-size", 16)
    rate = ("--optimizer", "sgd", "--schedule", "constant", "--learning-rate", 1e38)
    server = ("--parallel", "parameter-server", "--workers", 1)
    _, error = shell.run("train", *words, *rate, *server, code=2)
    assert "the test loss after step 1 is nan; there is no checkpoint" in error
    with convnets.Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps() == []


def test_sigterm_while_workers_start_ends_the_run_with_a_checkpoint(tmp_path):
    words = ("--workdir", tmp_path, "--model", "linear", "--steps", 40, "--batch-size", 16)
    process = shell.start("train", *words, "--parallel", "parameter-server", "--workers", 1)
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("starting workers: 1, shards: 1"):
            break
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=200)
    assert process.returncode == 143, "".join(said) + out + error
    assert "stopped by SIGTERM after step 0; checkpoint in" in out
    assert "all have started" not in out
    with convnets.Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps() == [0]


def is_zombie(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_the_last_line_of_an_actors_error_is_told():
    error = actors.died("worker 3", RuntimeError("The actor died.\n  more:\n  a cause\n"))
    assert str(error).endswith(
        "worker 3 of the parameter server died and will not come back: a cause"
    )


def test_an_address_where_no_cluster_listens_is_refused_at_once(monkeypatch):
    ray = ray_cluster.import_ray()
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("Ray was asked"))
    address = f"127.0.0.1:{find_free_port()}"
    message = f"^no Ray cluster answers at {address} .*: start it with ray start --head$"
    with pytest.raises(convnets.UserError, match=message), ray_cluster.connected(address, None):
        pass
