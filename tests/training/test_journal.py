"""What a run writes for people and for other tools."""

import json
import math

import pytest

from convnets.errors import UserError
from convnets.training import journal


def refuse(word):
    raise AssertionError(f"{word} is not JSON")


def test_what_is_not_finite_is_null_in_the_file_and_no_number_when_read(tmp_path):
    lines = [{"step": 1, "test_loss": math.nan}, {"step": 2, "test_loss": 0.5, "stopped": "early"}]
    for line in lines:
        journal.append(tmp_path, line)
    for _ in range(2):  # as it was appended, then as it was written anew
        text = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert json.loads(text[0], parse_constant=refuse) == {"step": 1, "test_loss": None}
        first, second = journal.read_metrics(tmp_path)
        assert math.isnan(first["test_loss"])
        assert second == lines[1]
        journal.rewind(tmp_path, 2)


def test_a_line_that_is_no_object_is_refused(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n[1, 2]\n')
    with pytest.raises(UserError, match="line 2"):
        journal.read_metrics(tmp_path)
