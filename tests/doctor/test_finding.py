"""Findings: which is the first to mend, and how they are shown."""

import pytest

from convnets.doctor import Finding, first_wrong, format_report
from convnets.errors import UserError

FINDINGS = [
    Finding("data", "range", "ok", 255, "gray levels", "bytes from 0 to 255", "Scale them."),
    Finding("gradients", "", "not checked", None, "", "nothing could be compared"),
    Finding("rate", "", "wrong", 1234.5, "times the suggestion", "too fast", "Take a smaller one."),
    Finding("collapse", "units", "wrong", 99.5, "% dead", "of dense1", "Look at it."),
]


def test_the_first_wrong_one_is_to_be_mended_first():
    assert first_wrong(FINDINGS).name == "rate"
    assert first_wrong(FINDINGS[:2]) is None


def test_the_report_has_every_finding_and_advice_for_what_is_not_well():
    text = format_report(FINDINGS)
    for words in ("255 gray levels", "1.23e+03 times", "> Take a smaller one.", "99.5 % dead"):
        assert words in text
    assert "Scale them." not in text
    assert text.endswith("2 wrong, 0 warnings, 1 ok, 1 not checked; mend rate first")
    assert max(map(len, text.splitlines())) <= 100


def test_nothing_is_no_report():
    with pytest.raises(UserError, match="nothing was examined"):
        format_report([])
