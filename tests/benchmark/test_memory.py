import mmap

import pytest

from convnets.benchmark import memory
from convnets.benchmark.memory import (
    predict_memory,
    process_peak_bytes,
    program_bytes,
    require_memory,
    reset_process_peak,
)
from convnets.benchmark.workloads import compile_program, create_workload
from convnets.errors import UserError


@pytest.mark.parametrize(
    ("name", "batch_size", "mode"), [("lenet5", 128, "train"), ("cifar_resnet8", 64, "infer")]
)
def test_a_larger_batch_needs_what_was_predicted(name, batch_size, mode):
    workload = create_workload(name, batch_size, mode=mode)
    predicted = predict_memory(workload)
    needed = program_bytes(compile_program(workload))
    assert predicted.peak_bytes == pytest.approx(needed, rel=0.05)
    fixed = predicted.fixed_bytes + predicted.bytes_per_image * predicted.largest_batch
    assert fixed == pytest.approx(predicted.available_bytes, rel=0.01)


def test_a_program_needs_at_least_its_state_and_images():
    workload = create_workload("mlp", 16)
    state = 2 * 4 * (785 * 800 + 801 * 10)  # parameters and velocity, donated
    images = 4 * 16 * 28 * 28
    needed = program_bytes(compile_program(workload))
    assert state + images < needed < 2 * state


def test_what_does_not_fit_is_refused_before_it_runs(monkeypatch):
    program = compile_program(create_workload("linear", 4))
    require_memory(program)
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(UserError, match="a batch of 4 needs .* --memory tells"):
        require_memory(program)
    assert predict_memory(program.workload).largest_batch == 0


def test_the_limit_of_a_container_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CONTROL_GROUPS", tmp_path)
    free = memory.available_bytes()
    assert free > 2**20
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000\nactive_file 7\n")
    assert memory.available_bytes() > 2**20
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory.available_bytes() == 1000000 - 700000 + 100000


def test_the_peak_of_the_process_starts_anew():
    reset_process_peak()
    before = process_peak_bytes()
    with mmap.mmap(-1, 2**28) as pages:  # 256 MiB of new pages, given back at once
        for place in range(0, len(pages), mmap.PAGESIZE):
            pages[place] = 1
    assert process_peak_bytes() - before > 2**27
