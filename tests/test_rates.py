"""The search for a learning rate: a run at rising rates, as fit would do it."""

import jax
import numpy as np
import optax
import pytest

import convnets
from convnets.rates import Finding

from .small_runs import LINEAR, assert_same_bits, column, few_digits, fit, plain_run

OPTIONS = {"optimizer": "sgd", "seed": 1, "batch_size": 24, "augment": (), "devices": 1}


def find(**options):
    return convnets.find_learning_rate(LINEAR, few_digits(), **(OPTIONS | options))


def smooth(losses):
    weights = [0.9 ** np.arange(count)[::-1] for count in range(1, len(losses) + 1)]
    return [np.average(losses[: len(w)], weights=w) for w in weights]


def test_rates_rise_over_a_run_as_fit_would_do_it():
    finding = find(smallest=1e-4, largest=1.0, steps=9)
    np.testing.assert_allclose(finding.rates, 10 ** np.linspace(-4, 0, 9))
    result = fit(schedule=lambda count: 1e-4 * 1e4 ** (count / 8), steps=9, optimizer="sgd", seed=1)
    np.testing.assert_allclose(column(result, "learning_rate"), finding.rates, rtol=1e-5)
    np.testing.assert_allclose(column(result, "train_loss"), finding.losses, rtol=1e-6)
    np.testing.assert_allclose(finding.smoothed, smooth(finding.losses), rtol=1e-12)
    assert finding.suggestion == pytest.approx(finding.rates[finding.smoothed.argmin()] / 10)
    assert not finding.diverged


def test_it_ends_where_the_loss_diverges():
    finding = find(smallest=1e-2, largest=1e6, steps=40)
    assert finding.diverged
    assert len(finding.rates) == len(finding.losses) == len(finding.smoothed) < 40
    *before, last = smooth(finding.losses)
    assert last > 4 * min(before)
    assert max(before) <= 4 * min(before)
    assert "diverged at" in finding.describe()


def test_a_given_state_stays_and_is_where_it_starts():
    state = plain_run().state
    copy = jax.tree.map(np.array, state)
    finding = find(state=state, steps=3, smallest=1e-5)
    assert_same_bits(jax.tree.map(np.asarray, state), copy)
    go_on = fit(state=state, steps=1, optimizer="sgd", seed=1, schedule=lambda count: 1e-5)
    assert finding.losses[0] == pytest.approx(column(go_on, "train_loss")[0], rel=1e-6)


def test_the_picture_marks_the_suggestion():
    losses = np.array([3.0, 2.0, 1.0, 5.0, np.inf])
    rates = 10.0 ** np.arange(-4, 1)
    finding = Finding(rates, losses, np.array([3.0, 2.5, 2.0, 3.0, np.inf]), 1e-3, True)
    (axes,) = finding.draw().axes
    assert axes.get_xscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("learning rate", "training loss")
    raw, smoothed, line = axes.get_lines()
    assert raw.get_ydata().tolist() == losses.tolist()
    assert smoothed.get_xdata().tolist() == rates.tolist()
    assert set(line.get_xdata()) == {1e-3}
    low, high = axes.get_ylim()
    assert low < 1 < 3 < high < 5
    none = finding._replace(suggestion=None)
    assert len(none.draw().axes[0].get_lines()) == 2
    assert "no learning rate lowered the loss" in none.describe()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.1, "epochs": 3}, "takes no epochs, learning_rate"),
        ({"early_stopping": 2, "recompute_statistics": 3}, "no recompute_statistics, early_stop"),
        ({"warmup_kind": "constant", "warmup_rate": 0.1}, "takes no warmup_kind, warmup_rate"),
        ({"smallest": 0.0}, "the learning rates rise, from above 0; not from 0.0"),
        ({"steps": 1}, "at least 2 steps, not 1"),
        ({"optimizer": optax.sgd(0.1)}, "has its learning rate; name one"),
        ({"optimizer": "adm"}, "did you mean 'adam'"),
        ({"batch_sise": 3}, "did you mean 'batch_size'"),
    ],
)
def test_what_does_not_belong_is_refused(options, message):
    with pytest.raises(convnets.UserError, match=message):
        find(**options)


def test_a_schedule_of_ones_own_gives_the_rate_itself():
    result = fit(optimizer="sgd", schedule=lambda count: 0.1 / (1 + count), steps=4, accumulate=2)
    np.testing.assert_allclose(column(result, "learning_rate"), [0.1, 0.1, 0.05, 0.05], rtol=1e-6)
    others = {"learning_rate": 0.1, "warmup": 2, "warmup_rate": 0.1, "warmup_kind": "constant"}
    for name, value in others.items():
        with pytest.raises(convnets.UserError, match=f"gives the rate: leave {name} out"):
            fit(optimizer="sgd", schedule=lambda count: 0.1, **{name: value})
