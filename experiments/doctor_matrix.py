"""Each of ten broken set-ups gets the right diagnosis, and healthy ones pass every check.

Command:    python experiments/doctor_matrix.py
Hardware:   see results/doctor_matrix.json
Minutes:    see there
Reference:  Fergus 2018, "Deep learning lecture 1: introduction and convnets", "Some practical
            debugging tips", which the checks are; there are no numbers
Ours:       see the table of README.md, made from results/doctor_matrix.json

A set-up is a network, the embedded digits and options, broken in one way (`broken_setups.py`), and
`convnets.doctor.examine` looks at it. Beforehand it is written down which finding has to be wrong,
and where else what is broken shows itself: a network that learns nothing does not overfit either.
All else that warns or is wrong is a false alarm, and so is anything in a healthy set-up.

The five of `unseen_setups.py` were written when the checks stood, and no check was changed for
them: of those it is told what is noticed, which may be nothing.
"""

import dataclasses

from broken_setups import SETUPS, Setup
from cases import Common, require_known, run_cases, run_from_shell
from tables import format_table, name_seeds, origin
from unseen_setups import UNSEEN

import convnets
from convnets import doctor

NAME = "doctor_matrix"
MARKS = {"ok": "", "warning": "w", "wrong": "**W**", "not checked": "-"}
SERIOUS = ("not checked", "ok", "warning", "wrong")
ALL = SETUPS | {name: Setup(build) for name, build in UNSEEN.items()}


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Examine set-ups that are broken in one way each, and archive every finding."""

    seeds: tuple[int, ...] = (0,)
    setups: tuple[str, ...] = tuple(ALL)
    trial_steps: int = 200


def main(config: Config) -> None:
    require_known("set-up", config.setups, ALL)
    small = {"setups": ("train images in test",), "trial_steps": 4} if config.quick else {}
    used = dataclasses.replace(config, **small)
    dataset = convnets.load_dataset("digits")
    cases = [{"setup": setup, "seed": seed} for seed in used.seeds for setup in used.setups]
    checks = ("data", "batch-norm") if config.quick else doctor.CHECKS

    def run(case, folder):
        return examine(ALL[case["setup"]], dataset, case["seed"], used.trial_steps, checks)

    results = run_cases(NAME, config, cases, run)
    print(table_of(results))


def examine(setup: Setup, dataset, seed: int, trial_steps: int, checks) -> dict:
    """The findings on a set-up, and how they stand to what is broken."""
    model, dataset, options = setup.build(dataset)
    findings = doctor.examine(
        model, dataset, checks=checks, trial_steps=trial_steps, seed=seed, **options
    )
    print(doctor.format_report(findings), flush=True)
    first = doctor.first_wrong(findings)
    unseen = setup.build in UNSEEN.values()
    return {
        "unseen": unseen,
        "expected": setup.wrong,
        "diagnosed": setup.wrong in [f.name for f in findings if f.verdict == "wrong"],
        "first_wrong": first and first.name,
        "noticed": [f.name for f in findings if f.verdict in ("warning", "wrong")],
        "false_alarms": [f.name for f in findings if not unseen and is_false_alarm(f, setup)],
        "findings": [f._asdict() for f in findings],
    }


def is_false_alarm(finding, setup: Setup) -> bool:
    if finding.verdict not in ("warning", "wrong") or finding.name == setup.wrong:
        return False
    return not finding.name.startswith(setup.follows) if setup.follows else True


def table_of(results: list[dict]) -> str:
    """A row for each set-up, a column for each check with its worst verdict."""
    columns = [*dict.fromkeys(f["check"] for r in results for f in r["findings"])]
    rows = [("set-up", "diagnosis", *columns, "false alarms")]
    for result in results:
        worst = dict.fromkeys(columns, "not checked")
        for finding in result["findings"]:
            check, verdict = finding["check"], finding["verdict"]
            worst[check] = max(worst[check], verdict, key=SERIOUS.index)
        nothing = "nothing noticed" if result["unseen"] else "healthy"
        right = result["first_wrong"] or ", ".join(result["noticed"]) or nothing
        if result["expected"] is not None:
            right = result["expected"] if result["diagnosed"] else "missed"
        marks = [MARKS[worst[check]] for check in columns]
        alarms = "" if result["unseen"] else str(len(result["false_alarms"]))
        rows.append((result["setup"], right, *marks, alarms))
    return format_table(rows)


def count_consequences(result: dict) -> int:
    """Findings that are not well because of what is broken elsewhere."""
    if result["unseen"]:
        return 0
    return len(set(result["noticed"]) - {result["expected"], *result["false_alarms"]})


def table(archive: dict) -> str:
    """The table of README.md."""
    results = archive["results"]
    broken = [result for result in results if result["expected"] is not None]
    right = sum(result["diagnosed"] for result in broken)
    alarms = sum(len(result["false_alarms"]) for result in results)
    looked = sum(len(result["findings"]) for result in results if not result["unseen"])
    follow = sum(count_consequences(result) for result in results)
    unseen = [result for result in results if result["unseen"]]
    noticed = sum(bool(result["noticed"]) for result in unseen)
    return (
        f"{table_of(results)}\n\n**W** wrong, w warning, - not checked. {right} of {len(broken)} "
        f"broken set-ups are diagnosed; {alarms} false alarms among {looked} findings of "
        f"{name_seeds(archive)}; {follow} more that are not well follow from what is broken, as it "
        f"was written down beforehand. Of the {len(unseen)} below, for which no check was made, "
        f"something is noticed in {noticed}. {origin(archive)}"
    )


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
