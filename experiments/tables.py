"""Tables in Markdown, and the sentence that says where their numbers come from."""

import statistics


def format_table(rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown; the first row is its head, and all columns but the first are numbers."""
    head, *body = rows
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def format_rate(rate: float) -> str:
    """Three digits at least."""
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:.3g}"


def format_mean(numbers: list[float]) -> str:
    """The mean and, of more than one, the deviation.

    >>> format_mean([1.0, 2.0]), format_mean([1.0])
    ('1.50 ± 0.71', '1.00')
    """
    spread = f" ± {statistics.stdev(numbers):.2f}" if len(numbers) > 1 else ""
    return f"{statistics.mean(numbers):.2f}{spread}"


def name_seeds(archive: dict) -> str:
    """How many seeds have been archived.

    >>> name_seeds({"results": [{"seed": 0}, {"seed": 0}, {"seed": 2}]})
    '2 seeds'
    """
    count = len({result["seed"] for result in archive["results"]})
    return f"{count} seed{'s' * (count != 1)}"


def origin(archive: dict, data: str = "") -> str:
    """A sentence: the command, the hardware, the versions and the date of an archived result.

    `data` is the option that every run needs besides, such as `--data-dir DIR`.
    """
    hardware, versions = archive["hardware"], archive["versions"]
    cores = f"{hardware['cores']} core{'s' if hardware['cores'] > 1 else ''}"
    command = " ".join(filter(None, [archive["command"], data]))
    return (
        f"`{command}`: {archive['minutes']:.1f} minutes on {cores} "
        f"({hardware['processor']}) with jax {versions['jax']}, {archive['date']}."
    )
