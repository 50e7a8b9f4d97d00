"""Tables for the terminal: aligned columns, shapes, counts."""

from collections.abc import Iterable


def align_columns(rows: Iterable, left: int) -> list[str]:
    """Rows of texts as lines with columns of one width: the first `left` ones begin at one place,
    the others end at one.

    >>> align_columns([("conv1", "9"), ("fc", "1,000")], left=1)
    ['conv1      9', 'fc     1,000']
    """
    rows = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(_align(row, widths, left)).rstrip() for row in rows]


def format_shape(shape: Iterable[int]) -> str:
    """A shape as it is written in the shell.

    >>> format_shape((224, 224, 3))
    '224x224x3'
    """
    return "x".join(map(str, shape))


def format_count(count: int) -> str:
    """Three digits and a unit.

    >>> format_count(4_089_184_256), format_count(999_999), format_count(840)
    ('4.09 G', '1.00 M', '840')
    """
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= 0.9995 * size:
            return f"{count / size:#.3g}".removesuffix(".") + f" {unit}"
    return str(count)


def _align(row, widths, left):
    for index, (cell, width) in enumerate(zip(row, widths)):
        yield cell.ljust(width) if index < left else cell.rjust(width)
