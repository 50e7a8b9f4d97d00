import pytest

from convnets.benchmark.arithmetic import count_flops, measure_peak
from convnets.benchmark.workloads import Workload


def test_lenet5s_operations_by_hand():
    """Multiply-adds of its five layers; training makes three passes, the first layer two."""
    layers = [28 * 28 * 6 * 25, 10 * 10 * 16 * 25 * 6, 400 * 120, 120 * 84, 84 * 10]
    assert count_flops(Workload("lenet5", 1, (28, 28, 1), "infer")) == 2 * sum(layers)
    training = count_flops(Workload("lenet5", 7, (28, 28, 1), "train"))
    assert training == 7 * 2 * (3 * sum(layers) - layers[0])


def test_precision_and_lowering_do_not_change_what_is_asked_for():
    plain = count_flops(Workload("cifar_resnet8", 2, (32, 32, 3)))
    assert (
        count_flops(Workload("cifar_resnet8", 2, (32, 32, 3), "train", "bfloat16", "xla")) == plain
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_peak_is_that_of_a_computer(precision, monkeypatch):
    monkeypatch.setattr("convnets.benchmark.arithmetic.SIDES", {"cpu": 512})
    assert 1e8 < measure_peak(precision) < 1e16
