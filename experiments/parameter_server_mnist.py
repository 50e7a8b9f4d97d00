"""An asynchronous parameter server errs as rarely as synchronous SGD, a dead worker and shard too.

Command:    python experiments/parameter_server_mnist.py --data-dir DIR    (DIR holds TFDS's mnist)
Hardware:   see results/parameter_server_mnist.json
Minutes:    see there
Reference:  Dean et al. 2012, "Large scale distributed deep networks", sections 4.1 and 5 (Downpour
            with Adagrad; on speech and ImageNet, without errors on MNIST to compare with)
Ours:       see the table of README.md, made from results/parameter_server_mnist.json

LeNet-5, Adagrad, the same examples, batches and learning rates in every case. "one device" updates
after every batch; the server has 4 workers and 2 shards, with no bound on staleness, and begins
with a warm start of an epoch, in which the first worker is alone; "no warm start" is without.
"two killed" is with one, and the process of one worker and of one shard are killed (SIGKILL) once
half of the steps are done; the shard comes back with what it last saved, at the end of an epoch.
Epochs, rate and warm start were chosen by looking at test errors of single trials.
"""

import contextlib
import dataclasses
import json
import os
import signal
import statistics
import tempfile
import threading
from pathlib import Path

from archive import summarize_run
from cases import Common, require_whole, run_cases, run_from_shell
from tables import format_table, origin

import convnets

NAME = "parameter_server_mnist"
ONE, SERVER = "one device", "parameter server"
COLD, KILLED = f"{SERVER}, no warm start", f"{SERVER}, two killed"
WAYS = (ONE, SERVER, COLD, KILLED)
COUNTED = ("sent", "applied", "lost", "repeated", "dropped", "ahead", "staleness", "restarts")
VICTIMS = ("ray::GradientWorker", "ray::ServerShard")  # titles of processes, the first of each


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train LeNet-5 on one device and by a parameter server, and archive what each reaches."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the initialization, the order of the data and the augmentation."""
    data: str = "mnist"
    """As for `convnets train`."""
    epochs: float = 5
    batch_size: int = 128
    learning_rate: float = 0.01
    """Of Adagrad, at its largest; a cosine brings it to zero."""
    warm_start: int = 469
    """Steps that the first worker does alone: an epoch, in which the gradients are largest, and
    stale ones do most harm."""
    workers: int = 4
    shards: int = 2


def main(config: Config) -> None:
    small = {"data": "digits", "epochs": 20, "seeds": config.seeds[:1], "workers": 2}
    small |= {"warm_start": 6}
    used = dataclasses.replace(config, **small) if config.quick else config
    dataset = convnets.load_dataset(used.data, data_dir=config.data_dir)
    ways = (ONE, KILLED) if config.quick else WAYS
    cases = [{"way": way, "seed": seed} for seed in used.seeds for way in ways]

    def run_case(case, folder):
        return run(used, dataset, **case)

    run_cases(NAME, config, cases, run_case)


def run(config: Config, dataset, way: str, seed: int) -> dict:
    """One training: its test error, and what became of the pushes."""
    server = {"parallel": "parameter-server", "workers": config.workers, "shards": config.shards}
    server |= {"warm_start": 0 if way == COLD else config.warm_start}
    steps = round(config.epochs * len(dataset.train) / config.batch_size)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        if way == KILLED:
            stack.enter_context(killing(Path(folder, "run"), steps // 2))
        result = convnets.fit(
            convnets.create_model("lenet5", num_classes=dataset.num_classes),
            dataset,
            epochs=config.epochs,
            batch_size=config.batch_size,
            optimizer="adagrad",
            learning_rate=config.learning_rate,
            seed=seed,
            log_every=10,
            workdir=str(Path(folder, "run")),
            **({"devices": 1} if way == ONE else server),
        )
    require_whole(result)
    counted = result.history[-1].get("server", {})
    found = {"warm_start": server["warm_start"]} | {name: counted.get(name) for name in COUNTED}
    return summarize_run(result.history) | found


@contextlib.contextmanager
def killing(workdir: Path, step: int):
    """Meanwhile, kills one worker and one shard of this process once its run is at a step.

    Raises: RuntimeError on leaving, if the run ended without.
    """
    ended, killed = threading.Event(), []

    def watch():
        while not ended.wait(0.1):
            if last_step(workdir) >= step:
                killed.extend(pid for title in VICTIMS if (pid := find_below(title)))
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if len(killed) != len(VICTIMS):
        raise RuntimeError("the run ended before its processes were killed")


def last_step(workdir: Path) -> int:
    """Of the last whole line that a run has written, 0 before there is one."""
    try:
        whole, _, _ = (workdir / "metrics.jsonl").read_text().rpartition("\n")
    except OSError:
        return 0
    return json.loads(whole.splitlines()[-1])["step"] if whole else 0


def find_below(title: str) -> int | None:
    """A process below this one whose title begins so."""
    for entry in sorted(Path("/proc").iterdir()):
        with contextlib.suppress(OSError, ValueError):
            if (entry / "cmdline").read_text().startswith(title) and is_below(int(entry.name)):
                return int(entry.name)
    return None


def is_below(pid: int) -> bool:
    """Whether a process descends from this one."""
    while pid > 1 and pid != os.getpid():
        stat = Path("/proc", str(pid), "stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
    return pid == os.getpid()


def errors(archive: dict, way: str) -> list[float]:
    """Test errors in percent, one of each seed."""
    return [line["test_error_percent"] for line in archive["results"] if line["way"] == way]


def total(archive: dict, way: str, name: str) -> int:
    """What was counted, over all seeds."""
    return sum(line[name] or 0 for line in archive["results"] if line["way"] == way)


def mean_staleness(archive: dict, way: str) -> float:
    """Over the pushes of all seeds, without those of the warm start, where nobody else pushes."""
    lines = [line for line in archive["results"] if line["way"] == way]
    ages = [(int(age), many) for line in lines for age, many in line["staleness"].items()]
    alone = archive["settings"]["shards"] * sum(line["warm_start"] for line in lines)
    return sum(age * many for age, many in ages) / (sum(many for _, many in ages) - alone)


def table(archive: dict) -> str:
    """The table of README.md."""
    names = ("sent", "applied", "lost", "repeated", "dropped")
    rows = [("training", "test error", *names, "mean staleness")]
    for way in dict.fromkeys(line["way"] for line in archive["results"]):
        counts = [""] * (len(names) + 1)
        if way != ONE:
            counts = [f"{total(archive, way, name):,}" for name in names]
            counts.append(f"{mean_staleness(archive, way):.2f}")
        rows.append((way, f"{statistics.mean(errors(archive, way)):.2f} %", *counts))
    used = archive["settings"]
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Means over {len(errors(archive, ONE))} "
        f"seed(s); {used['workers']} workers; pushes to each of {used['shards']} shards, of all "
        "seeds together; staleness without the warm start's."
    )


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
