"""A parameter server in one process: against synchronous training, and against hand computation."""

import dataclasses
import json
from unittest import mock

import jax
import numpy as np
import optax
import pytest
from safetensors import SafetensorError

import convnets
from convnets.asynchronous import create_task
from convnets.parallel.gate import GO, STOP, WAIT, Gate, Sent
from convnets.parallel.parameter_server import (
    Counts,
    Push,
    apply_push,
    create_shards,
    divide_paths,
    divide_push,
    flat,
    join_shards,
    make_update,
    paths_of,
)
from convnets.parallel.shard_files import read_shard, shard_file, write_shard
from convnets.parallel.workers import compile_task, work
from convnets.planning import make_plan
from convnets.training.options import create_options
from tests.small_runs import Small, assert_same_bits, few_digits, fit

from .local_server import LocalServer
from .quadratics import PARAMS, RATE, STATS

SMALL = {"batch_size": 24, "augment": ("translate",), "log_every": 1, "seed": 3, "steps": 6}


def local_server(plan, task):
    state = plan.create_state()
    trees = convnets.parallel.gather((state.params, state.batch_stats, state.opt_state))
    shards = plan.options.shards
    counts = [Counts(task.begun)] * shards
    update = make_update(plan.optimizer, task.workers)
    gate = Gate(task.begun, shards=shards, bound=plan.options.staleness_bound)
    return LocalServer(create_shards(*trees, plan.optimizer, shards, counts), update, gate)


def train_here(model, **options):
    """The shards and the plan of a run whose workers take turns in this process."""
    given = create_options(parallel="parameter-server", **{**SMALL, **options})
    plan = make_plan(model, few_digits(), given)
    task = create_task(plan, plan.create_state())
    server, compiled = local_server(plan, task), compile_task(task)
    done = list(task.begun)
    for until in range(1, task.until(plan.stop) + 1):
        for worker in range(task.workers):
            if done[worker] < until:
                done[worker] = work(task, compiled, server, worker, done[worker], until)
    return server, plan, task


def joined(server, plan):
    template = jax.eval_shape(plan.create_state)
    return convnets.parallel.gather(join_shards(server.shards, template.opt_state))


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd", "shards": 1},
        {"optimizer": "adagrad", "shards": 3, "weight_decay": 0.1, "clip": 0.05},
        {"optimizer": "momentum", "shards": 3, "schedule": "step", "push_every": 2},
    ],
    ids=lambda options: f"{options['optimizer']}-{options['shards']}",
)
def test_one_worker_trains_as_one_device_does(options):
    """Parameters, optimizer and statistics, under dropout, augmentation and batch norm."""
    server, plan, _ = train_here(Small(), workers=1, **options)
    every = options.get("push_every", 1)
    same = {name: x for name, x in options.items() if name not in ("shards", "push_every")}
    expected = fit(Small(), **{**SMALL, **same, "accumulate": every}).state
    found = joined(server, plan)
    opt_state = expected.opt_state if every == 1 else expected.opt_state.inner_opt_state
    wanted = (expected.params, expected.batch_stats)
    for one, other in zip(jax.tree.leaves(found[:2]), jax.tree.leaves(wanted)):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    moments = [x for x in jax.tree.leaves(opt_state) if x.shape]
    here = [x for x in jax.tree.leaves(found[2]) if x.shape]
    assert len(here) == len(moments)
    for one, other in zip(here, moments):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    for shard in server.shards:
        updates = plan.stop // every
        assert shard.counts == Counts((updates,), updates, staleness={0: updates})


def test_updates_are_counted_by_the_server():
    options = {"optimizer": "sgd", "learning_rate": 0.4, "steps": 10, "shards": 2}
    server, plan, task = train_here(Small(), workers=2, push_every=2, **options)
    assert (plan.stop, task.until(plan.stop)) == (12, 3)  # whole pushes of both
    schedule = convnets.create_schedule("cosine", 0.4, 6)
    for update in range(6):
        assert float(plan.learning_rate(update)) == pytest.approx(float(schedule(update)))
    (count,) = jax.tree.leaves(joined(server, plan)[2])
    assert int(count) == 6
    assert task.steps((3, 3)) == 12


def shards_of(number, workers, optimizer=None):
    optimizer = optimizer or optax.sgd(RATE)
    counts = [Counts((0,) * workers)] * number
    return create_shards(PARAMS, STATS, optimizer.init(PARAMS), optimizer, number, counts)


def push_all(shards, update, worker, number, versions, gradient, seen):
    """One push of gradients and statistics that are all the same number."""
    grads = jax.tree.map(lambda x: np.full_like(x, gradient), PARAMS)
    stats = jax.tree.map(lambda x: np.full_like(x, seen), STATS)
    pushes = divide_push(paths_of(shards), worker, number, versions, grads, stats, 0.0)
    return [apply_push(shard, push, update) for shard, push in zip(shards, pushes)]


def test_a_scripted_interleaving_against_a_hand_computation():
    shards, update = shards_of(2, workers=2), make_update(optax.sgd(RATE), 2)
    script = [  # worker, number, version fetched, gradient, statistics
        (0, 1, 0, 1.0, 4.0),  # nobody between: 0
        (1, 1, 0, 2.0, 8.0),  # the first of worker 0 between: 1
        (1, 2, 0, 3.0, 0.0),  # both: 2
        (0, 2, 2, 4.0, 6.0),  # the second of worker 1: 1
        (0, 2, 2, 50.0, 60.0),  # once more
        (1, 1, 0, 70.0, 80.0),  # an old one
        (0, 5, 4, 5.0, 5.0),  # 3 and 4 never came: 0
    ]
    for worker, number, version, gradient, seen in script:
        shards = push_all(shards, update, worker, number, (version, version), gradient, seen)
    mean = 0.0
    for seen in (4.0, 8.0, 0.0, 6.0, 5.0):  # half the way to each, with two workers
        mean += (seen - mean) / 2
    for shard in shards:
        expected = Counts((5, 2), 5, dropped=2, missing=2, staleness={0: 2, 1: 2, 2: 1})
        assert shard.counts == expected
        for x in flat(shard.params).values():
            np.testing.assert_allclose(x, -RATE * (1 + 2 + 3 + 4 + 5), rtol=1e-6)
        for x in flat(shard.batch_stats).values():
            np.testing.assert_allclose(x, mean, rtol=1e-6)


def test_a_restored_shard_goes_on_from_its_file(tmp_path):
    optimizer = optax.adam(RATE)
    shards, update = shards_of(2, 1, optimizer), make_update(optimizer, 1)
    for number in (1, 2, 3, 4):
        shards = push_all(shards, update, 0, number, (number - 1,) * 2, 1.0, number)
        if number == 2:
            write_shard(shard_file(tmp_path, 1), shards[1])
            kept = shards[1]
    back = read_shard(shard_file(tmp_path, 1), optimizer)
    assert_same_bits(tuple(back)[:3], convnets.parallel.gather(tuple(kept)[:3]))
    assert back.counts == kept.counts
    both = push_all([shards[0], back], update, 0, 5, (4, 4), 1.0, 5)
    assert both[0].counts == Counts((5,), 5, staleness={0: 5})
    assert both[1].counts == Counts((5,), 3, missing=2, ahead=1, staleness={0: 2})


def test_files_that_are_no_shards_are_refused(tmp_path):
    (shard,) = shards_of(1, 1)
    path = shard_file(tmp_path / "new", 0)
    write_shard(path, shard)
    with pytest.raises(convnets.UserError, match="another optimizer"):
        read_shard(path, optax.adam(RATE))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(convnets.UserError, match="holds no shard"):
        read_shard(path, optax.sgd(RATE))
    (tmp_path / "file").touch()
    with pytest.raises(convnets.UserError, match="cannot write"):
        write_shard(shard_file(tmp_path / "file", 0), shard)
    with (
        mock.patch("safetensors.numpy.save_file", side_effect=SafetensorError("No space left")),
        pytest.raises(convnets.UserError, match="cannot write .*: No space left"),
    ):
        write_shard(path, shard)


@pytest.mark.parametrize("name", ["momentum", "adam", "muon", "lamb"])
def test_what_an_optimizer_remembers_is_divided_and_joined(name):
    optimizer = convnets.create_optimizer(name, 0.1)
    model = convnets.create_model("lenet5", num_classes=10)
    images = jax.numpy.zeros((1, 28, 28, 1))
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)
    opt_state = optimizer.init(params)
    opt_state = jax.tree.map(
        lambda x: rng.normal(size=x.shape).astype(x.dtype) if x.shape else np.int32(7), opt_state
    )
    shards = create_shards(params, {}, opt_state, optimizer, 3, [Counts((0,))] * 3)
    assert sum(len(flat(shard.params)) for shard in shards) == len(flat(params))
    assert_same_bits(join_shards(shards, opt_state), (params, {}, opt_state))


def test_a_memory_of_all_parameters_at_once_is_refused():
    optimizer = optax.flatten(optax.adam(0.1))
    with pytest.raises(convnets.UserError, match="cannot divide"):
        create_shards(PARAMS, {}, optimizer.init(PARAMS), optimizer, 2, [Counts((0,))] * 2)


def test_bytes_are_divided_evenly():
    model = convnets.create_model("cifar_resnet20", num_classes=10)
    images = jax.numpy.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variables)
    divided = divide_paths(variables["params"], variables["batch_stats"], 3)
    arrays = flat(variables["params"]), flat(variables["batch_stats"])
    sizes = [
        sum(tree[path].nbytes for tree, part in zip(arrays, parts) for path in part)
        for parts in divided
    ]
    assert max(sizes) <= 1.02 * min(sizes)  # seven of the arrays are an eighth of the whole each
    for tree, parts in zip(arrays, zip(*divided)):
        assert sorted(path for part in parts for path in part) == sorted(tree)
    with pytest.raises(convnets.UserError, match="2 arrays of parameters"):
        divide_paths(PARAMS, STATS, 3)


def test_a_gate_holds_back_who_is_ahead_and_frees_when_the_slowest_comes_back():
    gate = Gate((0, 0, 0), shards=1, bound=2)
    assert [gate.enter(0, number) for number in (0, 1, 2, 3)] == [GO, GO, GO, WAIT]
    assert gate.enter(1, 1) == GO
    assert gate.enter(0, 3) == WAIT  # for worker 2, which comes back at the beginning
    assert gate.enter(2, 0) == GO
    assert gate.enter(2, 1) == GO
    assert gate.enter(0, 3) == GO
    gate.finish(2, 9)  # it has no more to do
    assert gate.enter(0, 4) == WAIT
    assert gate.enter(1, 4) == GO
    assert gate.enter(0, 4) == GO
    gate.pause()
    assert {gate.enter(worker, 4) for worker in (0, 1, 2)} == {STOP}
    gate.pause(False)
    assert gate.enter(0, 4) == GO


def test_the_first_worker_is_alone_in_a_warm_start():
    gate = Gate((0, 4), shards=1, warm=4)
    assert [gate.enter(worker, number) for worker, number in [(1, 4), (0, 0), (1, 4)]] == [
        WAIT,
        GO,
        WAIT,
    ]
    assert [gate.enter(0, 3), gate.enter(1, 4)] == [GO, WAIT]
    assert [gate.enter(0, 4), gate.enter(1, 4)] == [GO, GO]


def test_what_was_sent_and_measured_adds_up():
    gate = Gate((3, 0), shards=2, sent=Sent((3, 0), 5, 1))
    gate.announce(0, 4, {"loss": (np.float64(2.0), np.int64(4))})
    gate.repeat()
    gate.announce(0, 4, {"loss": (np.float64(2.0), np.int64(4))})  # by a worker that came back
    gate.announce(1, 1, {"loss": (np.float64(1.0), np.int64(4))})
    gate.arrive("worker 0", 41)
    gate.arrive("worker 0", 42)
    heard = gate.read()
    assert heard.sent == Sent((4, 1), pushes=7, repeated=1 + 1 + 2)
    assert heard.metrics == {"loss": (3.0, 8)}
    assert (heard.processes, heard.births) == ({"worker 0": 42}, {"worker 0": 2})
    assert gate.read().metrics == {}


def test_counts_are_the_same_after_json():
    from convnets.parallel.downpour import counts_for, saved_counts

    plan = make_plan(Small(), few_digits(), create_options(parallel="parameter-server", **SMALL))
    task = create_task(plan, plan.create_state())
    counts = [Counts((2, 10), 12, 1, 2, 3, {0: 5, 10: 4, 2: 3})] * 2
    sent = Sent((2, 11), pushes=13, repeated=4)
    heard = Gate((2, 10), shards=2, sent=sent).read()
    saved = json.loads(json.dumps(saved_counts(counts, heard)))
    assert counts_for(task, 2, saved) == (counts, sent)
    assert counts_for(task, 3, None) == ([Counts((0, 0))] * 3, None)
    with pytest.raises(convnets.UserError, match="of 2 shards and 2 workers, not of 3 and 2"):
        counts_for(task, 3, saved)
    more = dataclasses.replace(plan.options, workers=3)
    more = create_task(plan._replace(options=more), plan.create_state())
    with pytest.raises(convnets.UserError, match="of 2 shards and 2 workers, not of 2 and 3"):
        counts_for(more, 2, saved)


def test_a_push_is_of_one_shard():
    shards = shards_of(2, workers=1)
    grads = jax.tree.map(np.ones_like, PARAMS)
    pushes = divide_push(paths_of(shards), 0, 1, (3, 4), grads, STATS, 0.5)
    assert [type(push) for push in pushes] == [Push, Push]
    assert [push.version for push in pushes] == [3, 4]
    assert {path for push in pushes for path in flat(push.grads)} == {"a/kernel", "b"}
    assert [sorted(flat(push.batch_stats)) for push in pushes] == [[], ["mean"]]
