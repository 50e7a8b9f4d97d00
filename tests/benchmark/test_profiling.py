import pytest

from convnets.benchmark.profiling import Event, profile, share_time
from convnets.benchmark.running import start
from convnets.benchmark.workloads import compile_program, create_workload


def test_operations_that_run_at_once_share_the_time():
    events = [
        Event("a", 0, 0.0, 10.0),
        Event("b", 0, 4.0, 6.0),
        Event("a", 0, 4.0, 4.0),  # of no length
        Event("c", 0, 20.0, 23.0),
    ]
    assert share_time(events) == {"a": 9.0, "b": 1.0, "c": 3.0}


def test_parts_of_a_training_step_sum_to_about_the_whole():
    program = compile_program(create_workload("cifar_resnet8", 32, lowering="xla"))
    found = profile(program, start(program))
    assert 0.6 < found.coverage <= 1.0
    assert sum(found.seconds.values()) == pytest.approx(found.coverage * found.step_seconds)
    assert list(found.seconds.values()) == sorted(found.seconds.values(), reverse=True)
    convolutions = sum(time for kind, time in found.seconds.items() if "convolution" in kind)
    assert convolutions > 0.2 * found.step_seconds
    assert {
        *("convolution", "convolution_input_gradient", "convolution_kernel_gradient"),
        *("matrix_product", "normalization", "elementwise", "optimizer"),
    } <= found.seconds.keys()


def test_parts_of_inference_have_no_gradients():
    program = compile_program(create_workload("lenet5", 64, mode="infer", lowering="xla"))
    found = profile(program, start(program), steps=5)
    assert found.steps == 5
    assert max(found.seconds, key=found.seconds.get) == "convolution"
    assert not any("gradient" in kind or kind == "optimizer" for kind in found.seconds)
