import statistics

import jax
import pytest

from convnets import benchmark
from convnets.benchmark import measurement
from convnets.benchmark.measurement import foretell, measure, shell_command
from convnets.benchmark.workloads import create_workload
from convnets.errors import UserError

QUICK = {"repetitions": 3, "seconds": 0.02}


@pytest.fixture(scope="module")
def found():
    """Against Flax, with a profile."""
    workload = create_workload("lenet5", 16)
    return measure(workload, against="flax", profiled=True, **QUICK)


def test_every_figure_is_there_and_fits_the_others(found):
    each = found["images_per_second_repetitions"]
    assert len(each) == 3
    assert found["images_per_second"] == statistics.median(each) > 0
    assert found["compile_seconds"] > 0
    assert found["process_peak_bytes"] > found["peak_bytes"] > 4 * 2 * 61_706
    per_image = 2 * (3 * 416_520 - 117_600)
    expected = found["images_per_second"] * per_image
    assert found["flops_per_second"] == pytest.approx(expected)
    share = expected / found["peak_flops_per_second"]
    assert found["share_of_peak"] == pytest.approx(share)
    assert found["versions"].keys() >= {"python", "jax", "convnets"}
    assert found["hardware"]["cores"] >= 1


def test_the_ratio_is_the_median_of_the_pairs(found):
    peer = found["peer"]
    assert peer["name"] == "flax"
    pairs = zip(found["images_per_second_repetitions"], peer["images_per_second_repetitions"])
    assert found["ratio_repetitions"] == pytest.approx([ours / theirs for ours, theirs in pairs])
    assert found["ratio"] == statistics.median(found["ratio_repetitions"])
    assert peer["compile_seconds"] > 0


def test_the_table_says_what_was_found(found):
    text = benchmark.format_measurement(found)
    assert text.startswith("lenet5, train, batches of 16 images 28x28x1, float32, lowering ")
    assert f"ratio: {found['ratio']:.2f}" in text
    assert "convolution kernel gradient" in text
    lines = {line.split("  ")[0] for line in text.splitlines()}
    assert {"convnets", f"flax {found['peer']['version']}", "total"} <= lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repetitions": 0}, "repetitions are at least 1"),
        ({"seconds": 0.0}, "seconds above 0"),
        ({"against": "torhc"}, "did you mean 'torch'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        measure(create_workload("linear", 2), **options)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4 bytes"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    ],
)
def test_running_out_of_memory_is_said_in_one_message(error, monkeypatch):
    def fail(program):
        raise error

    monkeypatch.setattr(measurement, "start", fail)
    with pytest.raises(UserError, match="memory ran out with a batch of 2; .*--memory"):
        measure(create_workload("linear", 2))


def test_other_errors_pass():
    with (
        pytest.raises(RuntimeError, match="something else"),
        measurement.refusing_what_does_not_fit(create_workload("linear", 2)),
    ):
        raise RuntimeError("something else")


def test_memory_is_foretold_without_running():
    found = foretell(create_workload("lenet5", 1000))
    assert found["memory"]["largest_batch"] > 1000
    text = benchmark.format_memory(found)
    assert f"the largest batch that fits is {found['memory']['largest_batch']:,}" in text


def test_the_command_repeats_the_measurement():
    workload = create_workload(
        "lenet5", 4, (32, 32, 1), mode="infer", precision="bfloat16", lowering="plain"
    )
    assert shell_command(workload, "flax", 3, 0.5, True) == (
        "convnets benchmark --model lenet5 --batch-size 4 --image 32x32x1 --mode infer "
        "--precision bfloat16 --lowering plain --against flax --repetitions 3 --seconds 0.5 "
        "--profile"
    )
