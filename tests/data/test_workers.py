import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnets.data import FileSource, batches
from convnets.errors import UserError


@pytest.fixture
def source(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (13, 6, 5, 3), np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    return FileSource([str(tmp_path / f"{n}.png") for n in range(13)], range(13), (6, 5, 3))


def test_processes_give_the_same_batches_in_the_same_order(source):
    expected, iterator = (batches(source, 4, seed=5, workers=workers)(3) for workers in (0, 2))
    for _ in range(9):
        batch, other = next(iterator), next(expected)
        np.testing.assert_array_equal(batch["image"], other["image"])
        np.testing.assert_array_equal(batch["label"], other["label"])
        assert batch["image"].base is None  # not in memory that a worker may take away
    assert multiprocessing.active_children()
    iterator.close()
    assert not multiprocessing.active_children()


def test_an_error_in_a_process_is_raised_here(source, tmp_path):
    (tmp_path / "7.png").write_bytes((tmp_path / "7.png").read_bytes()[:-5])
    iterator = batches(source, 13, workers=1)(0)
    with pytest.raises(UserError, match=r"7\.png is damaged, truncated"):
        next(iterator)
    assert not multiprocessing.active_children()


def test_processes_end_when_the_main_one_is_killed(source, tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "from convnets.data import FileSource, batches\n"
        "if __name__ == '__main__':\n"
        f"    source = FileSource({list(source.paths)!r}, range(13), (6, 5, 3))\n"
        "    iterator = batches(source, 4, workers=2)(0)\n"
        "    next(iterator)\n"
        "    print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, str(script)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as main:
        workers = [int(pid) for pid in main.stdout.readline().split()]
        assert len(workers) == 2
        assert all(map(is_running, workers))
        main.kill()
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")  # an orphan that nobody has collected yet runs no more
    return not (state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")
