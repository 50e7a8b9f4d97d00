"""What every experiment writes down beside its numbers: how, when and on what they were found."""

import dataclasses
import datetime
import json
import shlex
import statistics
from pathlib import Path

from convnets.benchmark import describe_hardware, describe_versions, write_json

RESULTS = Path(__file__).parent / "results"
# Fields of a config that say where things lie and run, which changes nothing that is found.
PLACES = ("data_dir", "workdir", "resume", "archive", "tensorflow")
PLACES += ("coordinator", "num_processes", "process_id", "connect_timeout")


def write_archive(
    path: Path,
    name: str,
    config,
    results: list[dict],
    minutes: float,
    repetitions: int | None = None,
) -> None:
    """Writes an experiment's results as JSON, whole or not at all.

    Args:
      path: the file.
      name: of the experiment, `experiments/NAME.py`.
      config: its dataclass.
      results: one dict for each repetition, or for each thing of which there are `repetitions`.
      minutes: what they took together.
      repetitions: how many there are; None for one a result.
    """
    archived = {
        "experiment": name,
        "command": shell_command(name, config),
        "settings": settings(config),
        "date": datetime.date.today().isoformat(),
        "hardware": describe_hardware(),
        "versions": describe_versions(),
        "repetitions": len(results) if repetitions is None else repetitions,
        "minutes": round(minutes, 2),
        "results": results,
    }
    write_json(path, archived)


def read_archive(name: str) -> dict:
    """The archived results of `experiments/NAME.py`."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def summarize_run(history: list[dict], split: str = "test") -> dict:
    """What the last evaluation of a run found, and how fast it was reached.

    Args:
      history: of the run, as `convnets.fit` returns it.
      split: what its test numbers were measured on.
    """
    last = history[-1]
    errors = round(last["test_examples"] * (1 - last["test_accuracy"]))
    rates = [line["images_per_second"] for line in history if "images_per_second" in line]
    return {
        f"{split}_error_percent": round(100 * errors / last["test_examples"], 4),
        f"{split}_errors": errors,
        f"{split}_examples": last["test_examples"],
        f"{split}_loss": last["test_loss"],
        "epochs": last["epoch"],
        "seconds": round(last["seconds"], 1),
        "images_per_second": round(statistics.median(rates)),
    }


def settings(config) -> dict:
    """The fields of a config that decide what is found."""
    fields = dataclasses.asdict(config).items()
    return {name: value for name, value in fields if name not in PLACES}


def shell_command(name: str, config) -> str:
    """The command that repeats an experiment: those settings that are not the default's.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Config:
    ...     seeds: tuple[int, ...] = (0, 1)
    ...     batch_size: int = 64
    ...     quick: bool = False
    >>> shell_command("digits", Config(seeds=(3, 4), quick=True))
    'python experiments/digits.py --seeds 3 4 --quick'
    """
    words = ["python", f"experiments/{name}.py"]
    defaults = settings(type(config)())
    for field, value in settings(config).items():
        if value != defaults[field]:
            values = value if isinstance(value, tuple) else () if value is True else (value,)
            words += [f"--{field.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)
