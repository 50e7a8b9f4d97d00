"""What a run by a parameter server refuses, and what its workers are given to do."""

import jax
import numpy as np
import pytest

import convnets
from convnets.asynchronous import create_task
from convnets.planning import make_plan
from convnets.training import journal
from convnets.training.options import create_options, read_options
from convnets.training.sameness import require_same_run

from .small_runs import LINEAR, few_digits

SERVER = {"parallel": "parameter-server", "batch_size": 24, "augment": ()}


def plan_for(**options):
    return make_plan(LINEAR, few_digits(), create_options(**{**SERVER, **options}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 2}, "takes no accumulate: gradients are accumulated by push_every"),
        ({"devices": 2}, "takes no devices"),
        ({"steps_per_call": 2}, "takes no steps_per_call"),
        ({"ema": 0.9}, "takes no ema"),
        ({"sam": 0.1}, "takes no sam"),
        ({"freeze": "head/*"}, "takes no freeze"),
        ({"rate_scales": {"head/*": 0.1}}, "takes no rate_scales"),
        ({"layer_decay": 0.5}, "takes no layer_decay"),
        ({"schedule": "plateau"}, "takes no plateau"),
        ({"ray_address": "127.0.0.1:6379"}, "give a workdir that all its machines see"),
        ({"warm_start": 30, "steps": 30}, "leaves the other workers none"),
        ({"parallel": "jit", "shards": 2}, "shards: of a parameter server alone"),
        ({"parallel": "pmap", "warm_start": 2, "push_every": 2}, "push_every, warm_start: of a"),
        ({"push_every": 0}, "push_every must be a whole number, at least 1"),
        ({"staleness_bound": -1}, "staleness_bound must be a whole number, not negative"),
    ],
    ids=str,
)
def test_what_is_refused(options, message):
    with pytest.raises(convnets.UserError, match=message):
        plan_for(**options)


def test_defaults_of_a_server():
    options = plan_for(epochs=1).options
    assert (options.optimizer, options.learning_rate, options.workers) == ("adagrad", 0.01, 2)
    plain = make_plan(LINEAR, few_digits(), create_options(batch_size=24, augment=())).options
    assert (plain.optimizer, plain.learning_rate, plain.workers) == ("adam", 0.002, 0)


@pytest.mark.parametrize(
    ("options", "stop"),
    [
        ({"steps": 9}, 10),
        ({"steps": 9, "workers": 3, "push_every": 2}, 12),
        ({"steps": 20, "workers": 3, "push_every": 2, "warm_start": 3}, 22),
        ({"steps": 0}, 0),
    ],
)
def test_all_workers_make_as_many_whole_pushes(options, stop):
    plan = plan_for(**options)
    assert plan.stop == stop
    task = create_task(plan, plan.create_state())
    until = task.until(stop)
    assert task.steps((until,) * plan.options.workers if stop else task.begun) == stop


def test_a_worker_computes_the_gradient_of_the_step_at_its_place():
    """One that one device would compute at that step of the run, augmentation and all."""
    plan = plan_for(augment=("translate", "rotate"), seed=4, steps=8, clip=0.1)
    state = plan.create_state()
    task = create_task(plan, state)
    batch = task.read(3)
    expected = convnets.data.batch_indices(120, 24, 3, seed=4)
    assert np.array_equal(batch["label"], few_digits().train.labels[expected])
    grads, _, metrics = task.gradient(state.params, state.batch_stats, np.int32(3), batch)
    at_place = state.replace(step=np.int32(3))
    wanted, _, measured = jax.jit(convnets.gradient(plan.loss_fn))(at_place, batch)
    for one, other in zip(jax.tree.leaves(grads), jax.tree.leaves(wanted)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert float(metrics["loss"][0]) == pytest.approx(float(measured["loss"][0]), rel=1e-6)
    limited = task.limit(grads, state.params)
    norms = [
        np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(t))) for t in (grads, limited)
    ]
    assert norms[0] > 0.1
    assert norms[1] == pytest.approx(0.1, rel=1e-5)


def test_what_may_not_change_when_a_server_is_resumed(tmp_path):
    config = plan_for(workers=3, shards=2, steps=6).config({"model": "linear", "data": "digits"})
    journal.open_run(tmp_path, config)
    saved = journal.read_config(tmp_path)
    assert read_options(saved).shards == 2
    require_same_run(saved, config | {"steps": 12, "staleness_bound": 3, "ray_address": "head:1"})
    for change in ({"workers": 2}, {"parallel": "jit"}, {"shards": 1}, {"push_every": 2}):
        with pytest.raises(convnets.UserError, match=f"{next(iter(change))}: "):
            require_same_run(saved, config | change)
    with pytest.raises(convnets.UserError, match="parallel: 'jit' in the run"):
        require_same_run(saved | {"parallel": "jit"}, config)


def test_a_config_of_before_there_were_servers_is_read():
    config = make_plan(LINEAR, few_digits(), create_options(batch_size=24)).config({})
    for name in ("shards", "push_every", "fetch_every", "staleness_bound", "warm_start"):
        del config[name]
    assert read_options(config).shards == 1


def test_more_shards_than_arrays_are_refused_before_anything_starts():
    with pytest.raises(convnets.UserError, match="2 arrays of parameters .* 99 shards: take at m"):
        plan_for(shards=99, steps=2)
