"""What every experiment goes through: cases that are archived one by one, and gone on with."""

import dataclasses
import json
import os

import pytest

import convnets

from .claims import load

cases = load("cases")


@dataclasses.dataclass(frozen=True)
class Config(cases.Common):
    seeds: tuple[int, ...] = (0, 1)


def run(path, seeds=(0, 1), *, asked=None, **options):
    """The results, and the cases that were run for them."""
    ran = []

    def measure(case, folder):
        if asked is not None:
            raise asked
        ran.append(case)
        return {"found": 10 * case["seed"]}

    config = Config(archive=path, **options)
    found = cases.run_cases("short", config, [{"seed": seed} for seed in seeds], measure)
    return found, ran


def test_what_is_archived_is_not_run_again_and_keeps_its_date(tmp_path):
    path = tmp_path / "short.json"
    run(path, seeds=(0,))
    old = json.loads(path.read_text()) | {"date": "2020-01-01"}
    path.write_text(json.dumps(old))
    found, ran = run(path, seeds=(0,), resume=True)
    assert ran == []
    assert json.loads(path.read_text()) == old
    found, ran = run(path, resume=True)
    assert ran == [{"seed": 1}]
    assert [line["found"] for line in found] == [0, 10]
    assert json.loads(path.read_text())["date"] != "2020-01-01"


def test_of_several_processes_the_first_alone_reads_writes_and_prints(
    tmp_path, monkeypatch, capsys
):
    """Here the second one, which goes by what the first has decided."""
    path = tmp_path / "folder" / "short.json"
    monkeypatch.setattr(cases.parallel, "is_first", lambda: False)
    monkeypatch.setattr(cases.parallel, "first_decides", lambda decision: [{"seed": 0, "found": 7}])
    found, ran = run(path, resume=True)
    assert ran == [{"seed": 1}]
    assert [line["found"] for line in found] == [7, 10]
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"settings": {}}'])
def test_an_archive_that_is_none_is_named(tmp_path, text):
    path = tmp_path / "short.json"
    path.write_text(text)
    with pytest.raises(convnets.UserError, match="short.json holds no archived results"):
        run(path, resume=True)


@pytest.mark.parametrize("what", ["experiment", "settings", "hardware", "versions"])
def test_results_of_another_kind_are_not_gone_on_with(tmp_path, what):
    path = tmp_path / "short.json"
    run(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {what: {"other": 1}}))
    with pytest.raises(convnets.UserError, match=f"was found under other {what}"):
        run(path, resume=True)


def test_a_place_that_cannot_be_written_is_found_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(convnets.UserError, match="cannot write"):
        run(tmp_path / "file" / "short.json", asked=AssertionError("it ran"))
    assert os.listdir(tmp_path) == ["file"]


def test_ctrl_c_is_said_in_a_line(capsys, monkeypatch):
    def interrupt(config):
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["short"])
    with pytest.raises(SystemExit) as stop:
        cases.run_from_shell("short", interrupt, Config)
    assert stop.value.code == 130
    assert capsys.readouterr().err == "short: interrupted; what is archived stays\n"


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(convnets.UserError, match="unknown stack 'rely'; did you mean 'relu'"):
        cases.require_known("stack", ["rely"], ["relu", "tanh"])


def test_the_archived_command_can_be_pasted():
    archive = load("archive")
    command = archive.shell_command("short", Config(seeds=("a b", "f(x)")))
    assert command == "python experiments/short.py --seeds 'a b' 'f(x)'"


def test_marks_in_the_readme_come_in_pairs():
    report = load("report")
    report.require_pairs("<!-- results: a -->\n<!-- end -->")
    for text in ("<!-- results: a -->", "<!-- end -->", "<!-- results: a --><!-- results: b -->"):
        with pytest.raises(SystemExit, match="the mark"):
            report.require_pairs(text)


def test_a_picture_that_was_cut_off_is_not_taken_for_drawn(tmp_path, monkeypatch):
    report = load("report")
    monkeypatch.setattr(report, "FIGURES", tmp_path)
    report.draw("vanishing_gradients")
    assert report.is_drawn("vanishing_gradients")
    path = tmp_path / "vanishing_gradients.png"
    whole = path.read_bytes()
    for part in (b"", whole[:3000]):
        path.write_bytes(part)
        assert not report.is_drawn("vanishing_gradients")
