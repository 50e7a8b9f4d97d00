"""What a run remembers of its evaluations, and hands on through a checkpoint."""

import pytest

from convnets.training.recording import Record


def evaluation(accuracy, loss):
    return {"validation_accuracy": accuracy, "validation_loss": loss}


class Saved:
    """In the place of checkpoints: what was saved last."""

    def save(self, number, state, host, metrics):
        self.host = host


def test_evaluations_without_a_new_best_are_counted_in_a_row():
    record = Record(patience=2)
    assert record.stopped is None
    lines = [(0.5, 1.0), (0.5, 1.0), (0.5, 0.9), (0.4, 0.1), (0.3, 0.1)]
    found = [record.is_best(evaluation(*line)) for line in lines]
    assert found == [True, False, True, False, False]  # a smaller loss decides between equals
    assert record.stopped == "2 evaluations without a new best on validation"
    assert record.is_best(evaluation(0.6, 5.0))
    assert record.stopped is None


def test_a_loss_that_is_no_number_is_the_worst():
    record = Record(patience=2)
    losses = [float("nan"), 2.0, 1.0, float("nan"), 1.5]
    found = [record.is_best({"validation_loss": loss}) for loss in losses]
    assert found == [True, True, True, False, False]  # the first has nothing before it
    assert record.stopped


@pytest.mark.parametrize(("patience", "stops"), [(1, True), (2, True), (3, False), (None, False)])
def test_the_count_goes_on_from_a_checkpoint(patience, stops):
    saved = Saved()
    record = Record(checkpoints=saved)
    for accuracy in (0.5, 0.4):
        record.is_best(evaluation(accuracy, 1.0))
    record.save(7, None)
    again = Record(host=saved.host, patience=patience)
    assert not again.is_best(evaluation(0.5, 1.0))
    assert (again.stopped is not None) == stops


def test_without_validation_nothing_is_the_best_and_nothing_stops():
    record = Record(patience=1)
    assert [record.is_best({"test_loss": 1.0}) for _ in range(3)] == [False] * 3
    assert record.stopped is None
