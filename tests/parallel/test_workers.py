"""What a worker does, against hand computations, with a server that writes down what it hears."""

import jax
import numpy as np
import pytest

from convnets.parallel.gate import GO, STOP, WAIT
from convnets.parallel.workers import Fetched, compile_task, compute_push, work

from .quadratics import PARAMS, STATS, task


class Listener:
    """A server whose version rises by one with every push, and whose parameters are its version."""

    def __init__(self, words=()):
        self.version, self.heard, self.fetches = 0, [], 0
        self.words = list(words)
        self.finished = None

    def enter(self, worker, number):
        return self.words.pop(0) if self.words else GO

    def finish(self, worker, number):
        self.finished = worker, number

    def fetch(self):
        self.fetches += 1
        params = jax.tree.map(lambda x: np.full_like(x, self.version), PARAMS)
        stats = jax.tree.map(lambda x: np.full_like(x, -self.version), STATS)
        return Fetched((self.version,), params, stats)

    def push(self, worker, number, versions, grads, batch_stats, measured):
        gradient = float(grads["b"][0])
        self.heard.append((worker, number, versions, gradient, float(batch_stats["mean"][0])))
        self.measured = measured
        self.version += 1


@pytest.mark.parametrize("warm_start", [0, 6])
def test_workers_together_see_every_place_once(warm_start):
    options = {"push_every": 2, "warm_start": warm_start, "start": 7}
    work = task(3, **options)
    until = work.until(30)
    places = [
        work.place(worker, step)
        for worker in range(3)
        for step in range(2 * work.begun[worker], 2 * until)
    ]
    assert sorted(places) == list(range(7, 7 + 30))
    assert work.steps((until,) * 3) == 30
    assert work.until(29) == work.until(25) == until
    assert work.until(24) == until - 1


def test_one_step_a_push():
    server, quadratic = Listener(), task(2)
    assert work(quadratic, compile_task(quadratic), server, 1, 0, 3) == 3
    # places 1, 3, 5: batches 1, 3, 0; gradients are the version less the batch
    assert server.heard == [
        (1, 1, (0,), -1.0, 1.0),
        (1, 2, (1,), -2.0, 3.0),
        (1, 3, (2,), 2.0, 0.0),
    ]
    assert server.finished == (1, 3)
    assert server.fetches == 3
    loss, count = server.measured["loss"]
    assert (float(loss), int(count)) == (0.5 * 6 * 2.0**2, 1)


def test_several_steps_a_push_and_several_pushes_a_fetch():
    quadratic, server = task(1, push_every=2, fetch_every=4), Listener()
    work(quadratic, compile_task(quadratic), server, 0, 0, 4)
    # batches 0 1, 2 3, 4 0, 1 2: means 0.5, 2.5, 2, 1.5; fetched at versions 0 and 2
    assert server.heard == [
        (0, 1, (0,), -0.5, 1.0),
        (0, 2, (0,), -2.5, 3.0),
        (0, 3, (2,), 0.0, 0.0),
        (0, 4, (2,), 0.5, 2.0),
    ]
    assert server.fetches == 2
    assert int(server.measured["loss"][1]) == 2


def test_statistics_since_the_last_push_outlive_a_fetch():
    quadratic = task(1, push_every=2, fetch_every=1)
    halfway = quadratic._replace(
        gradient=lambda params, stats, step, batch: (
            params,
            jax.tree.map(lambda x: x + 10, stats),
            {"loss": (batch, 1)},
        )
    )
    server = Listener()
    work(halfway, compile_task(halfway), server, 0, 0, 2)
    assert server.fetches == 4
    assert [heard[4] for heard in server.heard] == [20.0, 19.0]
    assert [heard[2] for heard in server.heard] == [(0,), (1,)]


def test_gradients_are_clipped_once_a_push():
    clipped = task(1, push_every=2)._replace(
        limit=lambda grads, params: jax.tree.map(lambda x: x.clip(-1, 1), grads)
    )
    server = Listener()
    work(clipped, compile_task(clipped), server, 0, 1, 2)
    assert server.heard == [(0, 2, (0,), -1.0, 3.0)]  # the mean of -2 and -3


def test_a_worker_waits_stops_and_goes_on():
    quadratic, server = task(1), Listener([GO, WAIT, WAIT, GO, STOP])
    compiled = compile_task(quadratic)
    assert work(quadratic, compiled, server, 0, 5, 9) == 7
    assert server.finished == (0, 7)
    assert work(quadratic, compiled, server, 0, 7, 9) == 9
    assert [heard[1] for heard in server.heard] == [6, 7, 8, 9]


@pytest.mark.parametrize("push_every", [1, 2])
def test_a_push_for_nothing_compiles_all_that_the_others_need(push_every):
    """So that no push is as old as its gradient takes to compile."""
    quadratic, server, traced = task(1, push_every=push_every), Listener(), []

    def gradient(*args):
        traced.append(server.version)
        return task(1).gradient(*args)

    quadratic = quadratic._replace(gradient=gradient)
    compiled = compile_task(quadratic)
    compute_push(quadratic, compiled, server, 0, 0)
    assert (traced, server.heard) == ([0], [])
    work(quadratic, compiled, server, 0, 0, 3)
    assert traced == [0]
    assert len(server.heard) == 3
