"""What a run tells a person, and the sums behind it."""

import sys

import numpy as np

from .. import metrics
from ..errors import NotFiniteError


class Meter:
    """Sums of the metrics of training steps, read one step late so that nothing waits for them.

    Args:
      totals: sums to go on from, as `totals` gave them.

    Attributes:
      number: the last step whose metrics were read, or None.
    """

    def __init__(self, totals: dict | None = None):
        self._totals = {name: tuple(map(np.asarray, pair)) for name, pair in (totals or {}).items()}
        self._pending = None
        self.number = None

    def add(self, number: int, measured: dict) -> None:
        """Takes the metrics of a step, and reads those of the step before.

        Raises: NotFiniteError with the step whose loss it is.
        """
        self.read()
        self._pending = number, measured

    def read(self) -> None:
        """Waits for the metrics of the last step. Raises as `add`."""
        if self._pending is None:
            return
        (number, measured), self._pending = self._pending, None
        measured = metrics.to_host(measured)
        if not np.isfinite(measured["loss"][0]):
            raise NotFiniteError(
                f"the loss of step {number} is {measured['loss'][0]}; a smaller learning rate, a "
                "warm-up or --clip may help"
            )
        self._totals = metrics.add(self._totals, measured) if self._totals else measured
        self.number = number

    def totals(self) -> dict:
        """The sums so far as JSON data."""
        self.read()
        return {name: [x.tolist() for x in pair] for name, pair in self._totals.items()}

    def take(self) -> dict:
        """The means since the last take."""
        self.read()
        means, self._totals = metrics.finish(self._totals), {}
        return means


def open_bar(total: int, start: int, *, shown: bool = True):
    """A progress bar over the steps on standard error, hidden where that is no terminal."""
    import tqdm

    return tqdm.tqdm(
        total=total,
        initial=start,
        unit=" steps",
        dynamic_ncols=True,
        leave=False,
        disable=not (shown and sys.stderr.isatty()),
    )


def show(bar, line: dict, *, aloud: bool) -> None:
    """Prints a line for a person, and puts one about training beside the bar."""
    if aloud:
        say(bar, describe(line))
    if "train_loss" in line:
        bar.set_postfix_str(
            f"{_describe_metrics(line, 'train')}, {_describe_speed(line)}", refresh=False
        )


def say(bar, text: str) -> None:
    """Prints a line of text above the bar."""
    bar.clear()
    print(text, flush=True)


def describe(line: dict) -> str:
    """A line of `metrics.jsonl` for a person.

    >>> describe({"step": 20, "epoch": 2.0, "test_loss": 0.05, "test_accuracy": 0.985,
    ...           "test_examples": 400})
    'step 20, epoch 2: test loss 0.0500, accuracy 0.9850 (error 1.50 %) of 400'
    """
    parts = []
    for split in ("train", "validation", "test"):
        if f"{split}_loss" not in line:
            continue
        text = f"{split} {_describe_metrics(line, split)}"
        if f"{split}_examples" in line:
            if f"{split}_accuracy" in line:
                text += f" (error {100 * (1 - line[f'{split}_accuracy']):.2f} %)"
            text += f" of {line[f'{split}_examples']}"
        parts.append(text)
    if "stopped" in line:
        parts.append(f"stopped early: {line['stopped']}")
    if "images_per_second" in line:
        parts.append(_describe_speed(line))
    return f"step {line['step']}, epoch {line['epoch']:.4g}: " + "; ".join(parts)


def _describe_metrics(line, split):
    """The loss, and the accuracy, or what else there is in its place, but for arrays."""
    names = [name.removeprefix(f"{split}_") for name in line if name.startswith(f"{split}_")]
    others = [name for name in names if name not in ("loss", "examples")]
    names = ["accuracy"] if "accuracy" in others else others
    return ", ".join(
        f"{name} {line[f'{split}_{name}']:.4f}"
        for name in ("loss", *names)
        if isinstance(line[f"{split}_{name}"], float)
    )


def _describe_speed(line):
    text = f"{line['images_per_second']:,.0f} images/s"
    if "data_wait" not in line:  # workers of a parameter server, each with a wait of its own
        return text
    return f"{text}, {line['data_wait']:.0%} waiting for data"
