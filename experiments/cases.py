"""An experiment as a list of cases: one after the other, and none that is archived already."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import tyro
from archive import RESULTS, settings, write_archive

from convnets import UserError, load_dataset, parallel
from convnets.benchmark import describe_hardware, describe_versions, require_writable
from convnets.data import Dataset
from convnets.errors import first_line, unknown


@dataclasses.dataclass(frozen=True)
class Common:
    """What every experiment is asked for in the same words."""

    quick: bool = False
    """The smallest budget, which shows within seconds that everything runs."""
    data_dir: str | None = None
    """Where TensorFlow Datasets' sets are. Default: TFDS_DATA_DIR, else TFDS's own."""
    workdir: Path | None = None
    """Folder for the checkpoints of what is under way, of experiments whose cases take long; of the
    others what is finished is in the archive."""
    resume: bool = False
    """Go on: cases that are archived are left as they are, one that broke off goes on from its
    checkpoint in workdir, where there is one."""
    archive: Path | None = None
    """File for the results. Default: experiments/results/NAME.json for the settings as they are;
    with others, none."""


def run_from_shell(name: str, main: Callable[[Common], None], config: type[Common]) -> None:
    """Runs an experiment from the shell; what a user got wrong is said in one line, and so is
    Ctrl-C."""
    try:
        main(tyro.cli(config))
    except UserError as error:
        raise SystemExit(f"{name}: {error}") from None
    except KeyboardInterrupt:
        print(f"{name}: interrupted; what is archived stays", file=sys.stderr)
        raise SystemExit(130) from None


def run_cases(
    name: str,
    config: Common,
    cases: list[dict],
    run: Callable[[dict, Path | None], dict],
) -> list[dict]:
    """Runs every case that is not archived, and archives after each.

    Args:
      name: of the experiment, `experiments/NAME.py`.
      config: its settings, as they were given.
      cases: what tells one repetition from the others, such as `{"model": …, "seed": …}`.
      run: from a case and its folder for checkpoints, or None, to what it found.

    Of several processes each runs every case; process 0 alone reads and writes the archive.

    Returns: a dict for each case, in their order: the case, what it found and its `seconds`.

    Raises: UserError for results that were found under other settings, or on another machine, and
    for nothing to go on with.
    """
    default = settings(config) == settings(type(config)())
    path = config.archive or (RESULTS / f"{name}.json" if default else None)
    done = parallel.first_decides(partial(_open_archive, path, name, config))
    results = []
    for case in cases:
        found = next((line for line in done if line.items() >= _as_json(case).items()), None)
        if found is not None:
            results.append(found)
            _tell(found)
            continue
        folder = config.workdir and config.workdir / _folder_name(case)
        begin = time.monotonic()
        found = {**case, **run(case, folder)}
        seconds = max(found.get("seconds", 0), time.monotonic() - begin)  # of parts before, too
        found["seconds"] = round(seconds, 1)
        results.append(found)
        if path is not None and parallel.is_first():
            later = [line for line in done if line not in results]
            minutes = sum(line["seconds"] for line in results + later) / 60
            write_archive(path, name, config, results + later, minutes)
        _tell(found)
    return results


def make_devices(count: int) -> None:
    """Has JAX make so many devices out of the CPU, unless `XLA_FLAGS` says a number. To be called
    before JAX looks for its devices."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "device_count" not in flags:
        flags += f" --xla_force_host_platform_device_count={count}"
        os.environ["XLA_FLAGS"] = flags.strip()


def require_known(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Refuses names that an experiment does not know, with the nearest that it does."""
    for name in names:
        if name not in known:
            raise unknown(kind, name, known)


def load_mnist(config) -> Dataset:
    """MNIST, for --quick the embedded digits; where a share of the training split is set apart by
    `config.validation`, that in the place of the test split."""
    dataset = load_dataset(
        "digits" if config.quick else "mnist",
        data_dir=config.data_dir,
        validation=config.validation,
    )
    if not config.validation:
        return dataset
    return dataclasses.replace(dataset, test=dataset.validation, validation=None)


def can_go_on(folder: Path | None, config: Common) -> dict:
    """The options `workdir` and `resume` of `convnets.fit` for a case."""

    def is_there():
        return folder is not None and (folder / "config.json").exists()

    resume = config.resume and parallel.first_decides(is_there)
    return {"workdir": folder and str(folder), "resume": resume}


def require_whole(result) -> None:
    """Ends the experiment where a signal ended a training early: its checkpoint is written."""
    if result.signal is not None:
        print("stopped; --resume goes on where there is a workdir", file=sys.stderr)
        raise SystemExit(128 + result.signal)


def _open_archive(path, name, config):
    """The results to go on from; where there is no archive yet, it is known that it can be."""
    there = path is not None and path.exists()
    if config.resume and config.workdir is None and not there:
        raise UserError(
            "--resume needs the --workdir of the runs to go on with, or their --archive"
        )
    done = _read_finished(path, name, config) if config.resume and there else []
    if path is not None:
        require_writable(path)
    return done


def _read_finished(path, name, config):
    try:
        archive = json.loads(path.read_text())
        archive["settings"], [line.items() for line in archive["results"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} holds no archived results: {first_line(error)}") from None
    here = {"experiment": name, "hardware": describe_hardware(), "versions": describe_versions()}
    for what, now in {"settings": _as_json(settings(config)), **here}.items():
        found = archive.get(what)
        if found != now:
            raise UserError(
                f"{path} was found under other {what}: {found}, not {now}; give another --archive, "
                "or leave out --resume to begin anew"
            )
    return archive["results"]


def _as_json(fields):
    return {name: list(x) if isinstance(x, tuple) else x for name, x in fields.items()}


def _folder_name(case):
    return "_".join(f"{name}_{value}" for name, value in case.items()).replace("/", "-")


def _tell(found):
    """Prints what was found, without the curves."""
    if parallel.is_first():
        short = {name: x for name, x in found.items() if not isinstance(x, list | dict)}
        print(short, flush=True)
