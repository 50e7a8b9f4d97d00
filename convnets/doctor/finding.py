"""What a check found, and how the findings of all are shown."""

import textwrap
from typing import NamedTuple

from ..errors import UserError
from ..tables import align_columns

OK, WARNING, WRONG, NOT_CHECKED = VERDICTS = ("ok", "warning", "wrong", "not checked")
SERIOUS = {NOT_CHECKED: 0, OK: 1, WARNING: 2, WRONG: 3}
WIDTH = 100  # columns of the screen


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
      check: what was done, one of `CHECKS`.
      subject: what about, such as `labels`; may be empty.
      verdict: `ok`, `warning`, `wrong` or `not checked`.
      value: the number that the verdict hangs on, or None.
      unit: of the value.
      found: what was found, in a few words.
      advice: what to do where it is not well, in a sentence.
    """

    check: str
    subject: str
    verdict: str
    value: float | None
    unit: str
    found: str
    advice: str = ""

    @property
    def name(self) -> str:
        """Check and subject.

        >>> Finding("data", "labels", "ok", 97.0, "%", "").name
        'data: labels'
        """
        return f"{self.check}: {self.subject}" if self.subject else self.check


def judge(wrong: bool, warning: bool = False) -> str:
    """The verdict by what holds, the worst first.

    >>> judge(False), judge(False, True), judge(True, True)
    ('ok', 'warning', 'wrong')
    """
    return WRONG if wrong else WARNING if warning else OK


def first_wrong(findings) -> Finding | None:
    """The finding to mend first: checks come in the order of cause and effect. None without any."""
    return next((finding for finding in findings if finding.verdict == WRONG), None)


def format_report(findings) -> str:
    """The findings as a table for the terminal, what to do below each that is not well.

    Raises: UserError where there is nothing to show.

    >>> print(format_report([Finding("data", "classes", "wrong", 1, "classes", "3 has no image",
    ...                              "Find its images.")]))
    WRONG  data: classes  1 classes  3 has no image
           > Find its images.
    <BLANKLINE>
    1 wrong, 0 warnings, 0 ok, 0 not checked; mend data: classes first
    """
    if not findings:
        raise UserError("nothing was examined, so there is nothing to report")
    shown = {WRONG: "WRONG", WARNING: "warning", OK: "ok", NOT_CHECKED: "-"}
    rows = [(shown[f.verdict], f.name, _format_value(f), "") for f in findings]
    lines = []
    indent = " " * (max(len(shown[f.verdict]) for f in findings) + 2)
    for finding, start in zip(findings, align_columns(rows, left=2)):
        place = max(map(len, align_columns(rows, left=2))) + 2
        text = textwrap.wrap(finding.found, max(WIDTH - place, 30)) or [""]
        lines.append(f"{start.ljust(place)}{text[0]}".rstrip())
        lines += [" " * place + part for part in text[1:]]
        if finding.advice and finding.verdict != OK:
            advice = textwrap.wrap(f"> {finding.advice}", WIDTH - len(indent))
            lines += [indent + part for part in advice]
    counts = {verdict: sum(f.verdict == verdict for f in findings) for verdict in VERDICTS}
    first = first_wrong(findings)
    lines += [
        "",
        f"{counts[WRONG]} wrong, {counts[WARNING]} warnings, {counts[OK]} ok, "
        f"{counts[NOT_CHECKED]} not checked" + (f"; mend {first.name} first" if first else ""),
    ]
    return "\n".join(lines)


def _format_value(finding: Finding) -> str:
    if finding.value is None:
        return ""
    value = float(finding.value)
    small = value.is_integer() and abs(value) < 1e6
    return f"{value:,.0f} {finding.unit}" if small else f"{value:.3g} {finding.unit}"
