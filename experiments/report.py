"""Writes the tables of README.md from the archived results.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; what is there is written anew.

    python experiments/report.py            # rewrite README.md
    python experiments/report.py --check    # only say whether it is up to date; if not, exit code 1
"""

import difflib
import re
import statistics
import sys
from pathlib import Path

import tyro
from archive import read_archive

README = Path(__file__).parents[1] / "README.md"
MARKED = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def mnist_lenet5(archive: dict) -> str:
    errors = [repetition["test_error_percent"] for repetition in archive["results"]]
    seconds = statistics.median(repetition["seconds"] for repetition in archive["results"])
    rows = [
        ("MNIST", "test error", "training"),
        ("LeNet-5, here", f"**{statistics.median(errors):.2f} %**", f"{seconds:.0f} s"),
        ('"CNN" in the MNIST table of Collobert\'s lecture (2015)', "0.8 %", ""),
    ]
    each = ", ".join(f"{error:.2f}" for error in errors)
    return f"{format_table(rows)}\n\n{origin(archive)} Median of {len(errors)} seeds ({each} %)."


def digits_defaults(archive: dict) -> str:
    head = ("digits, `convnets train`", "test accuracy", "training", "whole command")
    rows = [
        (
            f"seed {repetition['seed']}",
            f"{100 * repetition['test_accuracy']:.2f} %",
            f"{repetition['seconds']:.0f} s",
            f"{repetition['process_seconds']:.0f} s",
        )
        for repetition in archive["results"]
    ]
    return f"{format_table([head, *rows])}\n\n{origin(archive)}"


def classic_digits(archive: dict) -> str:
    head = ("digits, features without back-propagation", "HMAX, linear SVM")
    rows = [(*head, "Neocognitron, its own labels", "Neocognitron, linear SVM")]
    names = ("hmax_accuracy", "neocognitron_accuracy", "neocognitron_svm_accuracy")
    for repetition in archive["results"]:
        found = [f"{100 * repetition[name]:.2f} %" for name in names]
        rows.append((f"seed {repetition['seed']}", *found))
    return f"{format_table(rows)}\n\n{origin(archive)}"


def input_path(archive: dict) -> str:
    rows = [("photos, images/s", "here", "`DataLoader`", "ratio", "`tf.data`", "ratio")]
    for photos in dict.fromkeys(line["photos"] for line in archive["results"]):
        lines = [x["images_per_second"] for x in archive["results"] if x["photos"] == photos]
        for workers in archive["settings"]["workers"]:
            ours = [rates[f"convnets, {workers} workers"] for rates in lines]
            row = [f"{photos}, {workers} workers", f"**{statistics.median(ours):,.0f}**"]
            for peer in (f"torch, {workers} workers", "tensorflow"):
                theirs = [rates.get(peer) for rates in lines]
                if None in theirs or (peer == "tensorflow" and workers):
                    row += ["", ""]
                    continue
                ratio = statistics.median(a / b for a, b in zip(ours, theirs))
                row += [f"{statistics.median(theirs):,.0f}", f"{ratio:.2f}"]
            rows.append(tuple(row))
    count = 1 + max(line["repetition"] for line in archive["results"])
    versions = archive["results"][0]["versions"]
    peers = ", ".join(f"{name} {versions[name]}" for name in versions if name != "convnets")
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Medians of {count} repetitions, and of the "
        f"ratios in each; {peers}."
    )


def speed(archive: dict) -> str:
    head = ("images/s", "with oneDNN", "without", "PyTorch", "with / PyTorch", "without / PyTorch")
    rows = [(*head, "Flax as usual", "with / Flax")]
    for result in archive["results"]:
        rates = {
            name: format_rate(figures["images_per_second"])
            for name, figures in result["contestants"].items()
        }
        ratios = {name: format_ratio(found) for name, found in result["ratios"].items()}
        name = f"{result['model']} ({result['batch_size']}), {result['mode']}"
        name += "" if result["precision"] == "float32" else f", {result['precision']}"
        cells = (
            rates.get("onednn"),
            rates["plain"],
            rates.get("torch"),
            ratios.get("onednn/torch"),
            ratios.get("plain/torch"),
            rates["flax"],
            ratios.get("onednn/flax"),
        )
        rows.append((name, *(cell or "" for cell in cells)))
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Medians of {archive['repetitions']} turns of "
        f"{archive['settings']['seconds']:g} s; a ratio is the median of the pairs' (in brackets "
        f"the least and the most). {', '.join(peer_versions(archive))}."
    )


def peer_versions(archive: dict) -> list[str]:
    """The libraries that a network was compared in, and that ours used, with their versions."""
    contestants = archive["results"][0]["contestants"]
    found = [f"{name} {contestants[name]['version']}" for name in ("torch", "flax")
             if name in contestants]  # fmt: skip
    return found + [f"oneDNN {c['onednn']}" for c in contestants.values() if "onednn" in c][:1]


def end_to_end(archive: dict) -> str:
    rows = [("LeNet-5 on MNIST, images/s", "`convnets train`", "bare step", "ratio")]
    for batch_size in archive["settings"]["batch_sizes"]:
        lines = [line for line in archive["results"] if line["batch_size"] == batch_size]
        training, step = (
            statistics.median(line[k] for line in lines) for k in ("training", "step")
        )
        ratios = [line["ratio"] for line in lines]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
        rows.append((f"batches of {batch_size}", f"{training:,.0f}", f"{step:,.0f}", spread))
    count = 1 + max(line["repetition"] for line in archive["results"])
    return f"{format_table(rows)}\n\n{origin(archive)} Medians of {count} repetitions."


def fully_convolutional(archive: dict) -> str:
    rows = [("images/s", "image", "places", "in one pass", "sliding window", "ratio")]
    for model in dict.fromkeys(line["model"] for line in archive["results"]):
        lines = [line for line in archive["results"] if line["model"] == model]
        whole, sliding, ratio = (
            [line[name] for line in lines] for name in ("whole", "sliding", "ratio")
        )
        spread = f"{statistics.median(ratio):.1f} ({min(ratio):.1f} - {max(ratio):.1f})"
        rates = (f"{statistics.median(rates):.3g}" for rates in (whole, sliding))
        size = "x".join(map(str, lines[0]["image_shape"]))
        places = "x".join(map(str, lines[0]["places"]))
        rows.append((model, size, places, *rates, spread))
    count = 1 + max(line["repetition"] for line in archive["results"])
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Medians of {count} repetitions; a ratio is the "
        "median of the pairs' (in brackets the least and the most)."
    )


def format_rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:.3g}"


def format_ratio(found: dict) -> str:
    each = found["ratio_repetitions"]
    return f"{found['ratio']:.2f} ({min(each):.2f} - {max(each):.2f})"


TABLES = {
    "classic_digits": classic_digits,
    "digits_defaults": digits_defaults,
    "end_to_end": end_to_end,
    "fully_convolutional": fully_convolutional,
    "input_path": input_path,
    "mnist_lenet5": mnist_lenet5,
    "speed": speed,
}


def format_table(rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown; the first row is its head, and all columns but the first are numbers."""
    head, *body = rows
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def origin(archive: dict) -> str:
    """A sentence: the command, the hardware, the versions and the date of an archived result."""
    hardware, versions = archive["hardware"], archive["versions"]
    return (
        f"`{archive['command']}`: {archive['minutes']:.1f} minutes on {hardware['cores']} cores "
        f"({hardware['processor']}) with jax {versions['jax']}, {archive['date']}."
    )


def render(text: str) -> str:
    """The text with every marked table written anew.

    Raises: SystemExit for a table that no experiment makes, or of which nothing is archived.
    """

    def write(match):
        begin, name, end = match.groups()
        if name not in TABLES:
            raise SystemExit(f"README.md asks for the table {name!r}; there are {sorted(TABLES)}")
        try:
            archive = read_archive(name)
        except FileNotFoundError:
            raise SystemExit(f"nothing is archived: run python experiments/{name}.py") from None
        return f"{begin}{TABLES[name](archive)}\n{end}"

    return MARKED.sub(write, text)


def main(check: bool = False, readme: Path = README) -> None:
    """Write the tables of README.md from the archived results.

    Args:
      check: Change nothing; show what differs, and exit with 1 if anything does.
      readme: The file.
    """
    old = readme.read_text()
    new = render(old)
    if check and new != old:
        lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "is", "ought to be")
        sys.exit("\n".join([*lines, "README.md is out of date: run python experiments/report.py"]))
    if not check:
        readme.write_text(new)


if __name__ == "__main__":
    tyro.cli(main)
